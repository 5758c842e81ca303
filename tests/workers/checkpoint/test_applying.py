"""Whatever the way to the live objects, they end up as `load_state_dict` would have left them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from relight.storage.backends.local import LocalBackend
from relight.tests.workers.checkpoint import states
from relight.workers.checkpoint import staging
from relight.workers.checkpoint.applying import Fitting
from relight.workers.checkpoint.collective import Circle
from relight.workers.checkpoint.heads import Head
from relight.workers.checkpoint.models import in_place
from relight.workers.checkpoint.placing import Placing
from relight.workers.checkpoint.restoring import find
from relight.workers.checkpoint.state import Parts


class Doubling(nn.Linear):
    """Loads in its own way."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict({name: 2 * value for name, value in state_dict.items()}, prefix, *rest)


class Negating(nn.Linear):
    """Loads in its own way, from the top."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: FBT001, FBT002 -- torch's
        return super().load_state_dict({name: -value for name, value in state_dict.items()}, strict, assign)


class Counted(nn.Linear):
    """Has state besides its tensors."""

    count = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"count": self.count}

    def set_extra_state(self, state: Any) -> None:
        self.count = state["count"]


class Keeping:
    """Keeps what it is given, as some parts do."""

    def __init__(self, value: float) -> None:
        self.value = torch.full((5,), value)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = state_dict["value"]


def hooked() -> nn.Module:
    module = nn.Linear(300, 400)
    module.register_load_state_dict_post_hook(_double)
    return module


def _double(module: nn.Module, _: object) -> None:
    module.get_parameter("weight").data.mul_(2)


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))
    module[1].weight = module[0].weight
    return module


def noisy(module: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return module


MODULES: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "plain": (lambda: nn.Sequential(nn.Linear(300, 400), nn.BatchNorm1d(400), nn.Conv2d(2, 3, 2)), True),
    "instance norm": (lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True), True),
    "tied": (tied, True),
    "another order in memory": (lambda: nn.Conv2d(64, 64, 3).to(memory_format=torch.channels_last), True),
    "half precision": (lambda: nn.Linear(300, 400).bfloat16(), True),
    "its own way of loading": (lambda: nn.Sequential(Doubling(300, 400), nn.Linear(400, 1)), False),
    "its own load_state_dict": (lambda: Negating(300, 400), False),
    "a hook": (hooked, False),
    "extra state": (lambda: Counted(300, 400), False),
}


def load(url: Path, of: Parts, parts: Parts, world_size: int = 3) -> None:
    """What `world_size` ranks have saved `of`, into `parts`."""
    states.store(url, of, 5, world_size)
    fitting = Fitting(parts, 0, 1)
    found = find(LocalBackend(url), Circle(None), prepare=fitting.prepare)
    assert found is not None
    with found:
        fitting.apply(found)


def head_of(url: Path, of: Parts) -> Head:
    states.store(url, of, 5, 3)
    found = find(LocalBackend(url), Circle(None))
    assert found is not None
    with found:
        return found.head


@pytest.mark.parametrize("kind", MODULES)
def test_a_model_is_as_load_state_dict_would_leave_it(tmp_path: Path, kind: str) -> None:
    make, _ = MODULES[kind]
    saved, live, expected = noisy(make(), 1), noisy(make(), 2), noisy(make(), 3)
    if isinstance(saved, Counted):
        saved.count = 9
    places = [tensor.data_ptr() for tensor in live.parameters()]
    load(tmp_path, Parts(model=saved), Parts(model=live))
    expected.load_state_dict(dict(saved.state_dict()))
    for name, value in expected.state_dict().items():
        got = live.state_dict()[name]
        assert torch.equal(got, value) if isinstance(value, torch.Tensor) else got == value, name
    assert [tensor.data_ptr() for tensor in live.parameters()] == places


@pytest.mark.parametrize("kind", MODULES)
def test_only_what_loads_plainly_is_written_in_place(tmp_path: Path, kind: str) -> None:
    make, plainly = MODULES[kind]
    head = head_of(tmp_path, Parts(model=make()))
    targets = in_place(make(), head.state["model"], Placing(head.layouts))
    assert (targets is not None) == plainly


def test_a_loader_that_only_one_module_has_is_not_passed_by(tmp_path: Path) -> None:
    live, head = nn.Linear(3, 2), head_of(tmp_path, Parts(model=nn.Linear(3, 2)))
    placing = Placing(head.layouts)
    assert in_place(live, head.state["model"], placing) is not None
    live._load_from_state_dict = lambda *_: None  # type: ignore[method-assign]
    assert in_place(live, head.state["model"], placing) is None


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_optimizer_s_state_is_written_where_it_is_or_made(
    tmp_path: Path, steps: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_SPREAD_BYTES", 1)
    monkeypatch.setattr("relight.workers.checkpoint.restoring._threads", lambda *_: threads)
    saved, live = states.parts(1, steps=3), states.parts(2, steps=steps)
    before = [tensor for state in live.optimizers["optimizer"].state.values() for tensor in state.values()]
    load(tmp_path, saved, live)
    assert states.fingerprint(live) == states.fingerprint(saved)
    after = [tensor for state in live.optimizers["optimizer"].state.values() for tensor in state.values()]
    assert {tensor.data_ptr() for tensor in before} <= {tensor.data_ptr() for tensor in after}


def test_moments_of_another_dtype_than_their_weights_stay_exact(tmp_path: Path) -> None:
    def made() -> Parts:
        model = nn.Linear(300, 400).bfloat16()
        return Parts(model=model, optimizer=torch.optim.AdamW(model.parameters()))

    saved, live = made(), made()
    third = torch.full((400, 300), 1 / 3)
    saved.optimizers["optimizer"].state[saved.models[""].get_parameter("weight")] = {
        "step": torch.tensor(1.0),
        "exp_avg": third,
        "exp_avg_sq": third,
    }
    load(tmp_path, saved, live)
    restored = live.optimizers["optimizer"].state[live.models[""].get_parameter("weight")]
    assert restored["exp_avg"].dtype == torch.float32
    assert torch.equal(restored["exp_avg"], third)


def test_what_a_part_keeps_is_its_own_whatever_becomes_of_the_memory(tmp_path: Path) -> None:
    part, url = Keeping(0.0), tmp_path
    states.store(url, Parts(model=Doubling(2, 2), shared={"ema": Keeping(3.0)}), 5, 3)
    fitting = Fitting(Parts(model=Doubling(2, 2), shared={"ema": part}), 0, 1)
    found = find(LocalBackend(url), Circle(None), prepare=fitting.prepare)
    assert found is not None
    with found:
        fitting.apply(found)
        for blank in found.shelf.blanks.values():
            blank.view[:] = bytes(blank.size)
    assert part.value.tolist() == [3.0] * 5
    assert not found.shelf.blanks
