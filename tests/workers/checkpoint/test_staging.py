"""The copy into an arena: every byte once, whatever the threads, planned once for one structure."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relight.storage.arrangement import arrange, plan
from relight.storage.shards import parse
from relight.workers.checkpoint import staging
from relight.workers.checkpoint.arenas import Arena, Arenas
from relight.workers.checkpoint.staging import Copier, Planner, work
from relight.workers.checkpoint.state import Captured, Parts, capture


def _captured(width: int = 300, *, step: int = 1) -> Captured:
    torch.manual_seed(width)
    model = nn.Sequential(nn.Linear(100, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(6, 100)).sum().backward()
    optimizer.step()
    return capture(Parts(model=model, optimizer=optimizer), {"step": step}, 0)


def _arena(size: int) -> Arena:
    arena = Arenas(1, 0, None, lambda _: False).take(size)
    assert arena is not None
    return arena


def _stage(captured: Captured, copier: Copier, *, overlap: bool) -> bytes:
    layout = Planner(0, 1).layout(captured)
    arena = _arena(layout.size)
    todo = work(arena, layout, captured, captured.waits_for_step if overlap else lambda _: False)
    wait = copier.begin(todo.later) if overlap else None
    copier.copy(todo.now)
    if wait is not None:
        wait()
    return bytes(arena.staged(layout.size).view)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("overlap", [False, True])
def test_every_way_of_copying_gives_the_same_file(
    threads: int, *, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_SPREAD_BYTES", 1)
    captured = _captured()
    staged = _stage(captured, Copier(threads), overlap=overlap)
    length = 8 + int.from_bytes(staged[:8], "little")
    layout = parse(staged[:length], len(staged), "shard")
    for placed in layout.placed:
        source = (captured.tensors | captured.own_tensors)[placed.piece.name].contiguous()
        there = staged[placed.start : placed.start + placed.piece.size]
        assert there == source.reshape(-1).view(torch.uint8).numpy().tobytes(), placed.piece.name


def test_only_what_the_optimizer_changes_may_be_copied_later() -> None:
    captured = _captured()
    layout = Planner(0, 1).layout(captured)
    arena = _arena(layout.size)
    todo = work(arena, layout, captured, captured.waits_for_step)
    names = {
        target.data_ptr(): placed.piece.name
        for target, placed in zip(arena.targets(layout.placed), layout.placed, strict=True)
    }
    later = {names[target.data_ptr()] for target, _ in todo.later}
    assert "model/0.weight" in later
    assert "optimizer/state/0.weight/exp_avg" in later
    now = {names[target.data_ptr()] for target, _ in todo.now}
    assert {"model/1.running_mean", "model/1.num_batches_tracked"} <= now
    assert any("rng" in name for name in now)
    assert len(now) + len(later) == len(layout.placed)


def test_one_structure_is_planned_once_and_its_targets_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    monkeypatch.setattr(staging, "arrange", lambda pieces: planned.append(1) or arrange(pieces))  # type: ignore[func-returns-value]
    planner = Planner(0, 1)
    planned.clear()
    first, second = planner.layout(_captured(step=1)), planner.layout(_captured(step=20_000))
    assert planned == [1]
    assert second.placed is first.placed
    assert second.header != first.header
    arena = _arena(first.size)
    assert arena.targets(first.placed) is arena.targets(second.placed)
    other = planner.layout(_captured(width=301))
    assert planned == [1, 1]
    assert other.placed is not first.placed


def test_a_layout_in_two_steps_is_the_one_made_at_once() -> None:
    captured = _captured()
    layout = Planner(0, 1).layout(captured)
    pieces = [placed.piece for placed in layout.placed]
    assert plan(pieces, captured.own_state | captured.state).header == layout.header


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_copies_are_spread_evenly_and_completely(parts: int) -> None:
    sources = [torch.randn(rows, 50) for rows in (1, 1000, 3, 400, 1)] + [torch.tensor(2.0)]
    pairs = [(torch.zeros_like(source), source) for source in sources]
    spread = staging._spread(pairs, parts)
    assert len(spread) <= parts
    for part in spread:
        staging._copy(part)
    assert all(torch.equal(target, source) for target, source in pairs)
    sizes = [sum(target.nbytes for target, _ in part) for part in spread]
    assert max(sizes) <= sum(sizes) / parts + parts * 200  # A row is 200 bytes.
