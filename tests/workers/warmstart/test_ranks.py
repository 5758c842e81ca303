"""Several ranks begin with the same weights, whatever wraps their model; what fails on one of them fails on all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relight.tests.workers.ranks import play
from relight.tests.workers.warmstart.nets import digest, net, write_run, write_safetensors, write_torch
from relight.tests.workers.warmstart.scenes import WIDTH, WRAPS
from relight.workers.checkpoint.warmstart.loading import init_from

SCENES = "relight.tests.workers.warmstart.scenes"
SOURCE_KINDS = ("torch", "safetensors", "run")
RANKS = 4


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    directory = tmp_path_factory.mktemp("wrapped")
    source = net(1, width=WIDTH)
    sources = {
        "torch": write_torch(source.state_dict(), directory / "a.pt"),
        "safetensors": write_safetensors(source, directory / "a.safetensors"),
        "run": write_run(source, directory / "run"),
    }
    (directory / "sources.json").write_text(json.dumps({kind: str(path) for kind, path in sources.items()}))
    return play(f"{SCENES}:wrapped", RANKS, directory)


@pytest.mark.parametrize("kind", SOURCE_KINDS)
@pytest.mark.parametrize("wrap", WRAPS)
def test_every_wrap_begins_with_the_same_weights(wrapped: list[Any], wrap: str, kind: str) -> None:
    state = dict(net(1, width=WIDTH).state_dict())
    if wrap in ("tp", "tp+fsdp"):  # Models without BatchNorm, which does not take to columns.
        state = {name: it for name, it in state.items() if not name.startswith("body.1.")}
    for answer in wrapped:
        assert answer[f"{wrap}, {kind}"]["digest"] == digest(state)
        assert answer[f"{wrap}, {kind}"]["loaded"] == len(state)
        assert answer[f"{wrap}, {kind}"]["computes"]
        assert answer[f"{wrap}, {kind}"]["trainable"]


def test_a_rank_reads_no_more_than_its_own_share(wrapped: list[Any]) -> None:
    size = sum(it.nbytes for it in net(1, width=WIDTH).state_dict().values())
    assert [answer["ddp, torch"]["read"] for answer in wrapped] == [size] * RANKS
    whole = sum(it.nbytes for name, it in net(1, width=WIDTH).named_buffers())  # FSDP does not shard these.
    assert sum(answer["fsdp, torch"]["read"] for answer in wrapped) == size + (RANKS - 1) * whole
    assert max(answer["fsdp, torch"]["read"] for answer in wrapped) < 0.4 * size


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    directory = tmp_path_factory.mktemp("refused")
    write_torch(net(1, width=WIDTH).state_dict(), directory / "a.pt")
    return play(f"{SCENES}:refused", 3, directory)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("only-one", "BadWeights: rank 1, 2: init_from: there is no file "),
        ("has-more", "StateMismatch: rank 1, 2: "),
        ("misfit", "StateMismatch: "),
        ("differs", "BadWeights: init_from: ranks 1, 2 read other bytes from the source than rank 0: is it the same "),
    ],
)  # fmt: skip
def test_what_fails_on_one_rank_is_heard_by_all(refused: list[Any], case: str, message: str) -> None:
    heard, _ = refused[0][case]
    assert heard.startswith(message)
    assert all(answer[case][0] == heard for answer in refused)


@pytest.mark.parametrize("case", ["only-one", "has-more", "misfit"])
def test_a_refusal_leaves_every_model_as_it_was(refused: list[Any], case: str) -> None:
    assert all(answer[case][1] for answer in refused)


def test_a_remote_file_is_fetched_once_for_a_host(tmp_path: Path) -> None:
    source = net(1, width=WIDTH)
    write_torch(source.state_dict(), tmp_path / "a.pt")
    for answer in play(f"{SCENES}:fetched", 2, tmp_path):
        assert answer == {"digest": digest(source.state_dict()), "title": f"memory://{tmp_path.name}/a.pt"}


def test_what_two_ranks_have_saved_is_begun_with_by_one(tmp_path: Path) -> None:
    """Rows of one tensor lie in both shards."""
    (answer, _) = play(f"{SCENES}:saved", 2, tmp_path)
    assert answer["pieces"] > answer["tensors"]
    model = net(2, width=300)
    init_from(model, str(tmp_path / "run"))
    assert digest(model.state_dict()) == digest(net(1, width=300).state_dict())
