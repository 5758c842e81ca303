"""The section `parallel`: a word, or a mode with its own sizes."""

from __future__ import annotations

import pytest

from relight.configs.errors import ConfigError
from relight.configs.load import load
from relight.configs.parallel import ParallelConfig


def parallel(override: str) -> ParallelConfig:
    return load("digits", [f"parallel={override}"]).parallel


@pytest.mark.parametrize("mode", ["ddp", "fsdp", "hsdp", "tp+fsdp"])
def test_a_word_is_a_mode(mode: str) -> None:
    assert parallel(mode) == parallel(f"{{mode: {mode}}}")
    assert parallel(mode).mode == mode


def test_sizes_stand_beside_the_mode() -> None:
    assert parallel("{mode: hsdp, shard: 4}") == ParallelConfig(mode="hsdp", shard=4)
    assert parallel("{mode: tp+fsdp, tensor: 2, meta: true}") == ParallelConfig(mode="tp+fsdp", tensor=2, meta=True)


def test_an_option_is_added_to_a_word() -> None:
    config = load("digits", ["parallel=hsdp", "parallel.shard=4", "init_from=a.pt", "init_from.exclude=[fc]"])
    assert config.parallel == ParallelConfig(mode="hsdp", shard=4)
    assert (str(config.init_from.source)[-4:], config.init_from.exclude) == ("a.pt", ("fc",))
    assert load("digits", ["parallel=hsdp", "parallel.mode=fsdp"]).parallel == ParallelConfig(mode="fsdp")


def test_nothing_is_ddp() -> None:
    assert parallel("") == ParallelConfig(mode="ddp")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("zero", "parallel.mode (HERE): expected 'ddp', 'fsdp', 'hsdp' or 'tp+fsdp'; got 'zero'."),
        (
            "{mode: fsdp, shard: 2}",
            "parallel (HERE): expected shard only where mode is hsdp; mode is fsdp; got {'mode': 'fsdp', 'shard': 2}.",
        ),
        (
            "{mode: hsdp, tensor: 2}",
            (
                "parallel (HERE): expected tensor only where mode is tp+fsdp; mode is hsdp; "
                "got {'mode': 'hsdp', 'tensor': 2}."
            ),
        ),
        ("{mode: hsdp, shard: 0}", "parallel.shard (HERE): expected 1 or more; got 0."),
        (
            "{meta: true}",
            (
                "parallel (HERE): expected meta: true only where the model is sharded: fsdp, hsdp or tp+fsdp; "
                "mode is ddp; got {'meta': True}."
            ),
        ),
        (
            "{mode: fsdp, sharding: 2}",
            (
                "unknown key parallel.sharding (HERE). Did you mean parallel.shard? "
                "Valid in parallel: meta, mode, shard, tensor."
            ),
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parallel(override)
    assert str(caught.value).splitlines() == [message.replace("HERE", f"override {f'parallel={override}'!r}")]
