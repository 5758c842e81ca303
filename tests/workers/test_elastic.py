"""Whatever worlds a run lives in and wherever it is killed: every step has the samples it would have had anyway."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relight.tests.workers import elastic_lives as lives
from relight.workers.accumulation import steps
from relight.workers.checkpoint.progress import Progress
from relight.workers.order import SHUFFLED, BucketedOrder, Order, SequentialOrder, WeightedOrder
from relight.workers.sampler import GlobalBatchSampler

EPOCHS = 2
Done = dict[int, tuple[int, list[int]]]
"""By step: the epoch, and the samples of all ranks."""


@dataclass(frozen=True)
class Life:
    """`killed_after` so many steps, of which the last few are lost."""

    world: int
    killed_after: int
    largest: int | None = None


@dataclass(frozen=True)
class History:
    length: int
    batch_size: int
    save_every: int
    lives: tuple[Life, ...]
    order: Order = SHUFFLED
    drop_last: bool = False


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Worlds of up to a quarter of the batch size, which is always enough."""
    batch_size = draw(st.integers(4, 48))
    world = st.integers(1, batch_size // 4)
    all_lives = draw(st.lists(st.builds(Life, world, st.integers(0, 9), st.none() | st.integers(1, 9)), max_size=6))
    widest = max((life.world for life in all_lives), default=1)
    length = draw(st.integers(max(batch_size, 2 * widest), 250))
    orders: list[Order] = [
        SHUFFLED,
        SequentialOrder(),
        WeightedOrder(range(1, length + 1), samples=draw(st.integers(max(batch_size, 2 * widest), 250))),
        WeightedOrder(range(1, length + 1), replacement=False),
        BucketedOrder([index % 9 for index in range(length)], group=batch_size),
    ]
    return History(
        length,
        batch_size,
        draw(st.integers(1, 5)),
        tuple(all_lives),
        draw(st.sampled_from(orders)),
        draw(st.booleans()),
    )


FOUR_TWO_THREE_ONE = (Life(4, 5), Life(2, 3, 4), Life(3, 7, 2), Life(1, 4, 1))


@given(histories())
@example(History(103, 16, 2, FOUR_TWO_THREE_ONE))
@example(History(103, 16, 3, FOUR_TWO_THREE_ONE, drop_last=True))
@settings(deadline=None)
def test_killed_anywhere_and_resumed_in_any_world_every_step_is_the_same(history: History) -> None:
    assert_every_step_is_the_same(history)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@given(histories())
@settings(deadline=None, max_examples=10_000)
def test_and_so_it_is_in_ten_thousand_histories(history: History) -> None:
    assert_every_step_is_the_same(history)


def assert_every_step_is_the_same(history: History) -> None:
    done = played(history)
    assert done == played(History(**{**vars(history), "lives": ()}))
    for epoch in range(EPOCHS):
        seen = Counter(index for at, samples in done.values() if at == epoch for index in samples)
        wanted = history.order.indices(history.length, 3, epoch).tolist()
        left_out = len(wanted) % history.batch_size if history.drop_last else 0
        assert seen == Counter(wanted[: len(wanted) - left_out])


def played(history: History) -> Done:
    """The steps that count in the end: what was done after the last checkpoint before a kill is done again."""
    done: Done = {}
    saved = Progress().facts()
    for life in [*history.lives, Life(1, 10**9)]:
        done = {step: what for step, what in done.items() if step <= saved["step"]}
        for count, now in enumerate(
            zip(*(rank_of(life, rank, history, saved) for rank in range(life.world)), strict=True)
        ):
            if count == life.killed_after:
                break
            (facts,) = {json.dumps(facts) for facts, _ in now}  # All ranks stand at the same place.
            progress = json.loads(facts)
            assert progress["step"] not in done
            done[progress["step"]] = progress["epoch"], [index for _, mine in now for index in mine]
            if progress["step"] % history.save_every == 0:
                saved = progress
    return done


def rank_of(
    life: Life, rank: int, history: History, saved: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Where a rank stands after each step, and the samples that counted in it."""
    sampler = GlobalBatchSampler(
        history.length,
        batch_size=history.batch_size,
        rank=rank,
        world_size=life.world,
        seed=3,
        drop_last=history.drop_last,
        order=history.order,
        max_per_rank=life.largest,
    )
    progress = Progress(sampler=sampler)
    progress.update(saved)
    for _ in progress.epochs(EPOCHS):
        for step in steps(sampler):
            mine = []
            for indices in step:
                assert life.largest is None or len(indices) <= life.largest
                if float(step.weighted(torch.ones(()))):
                    mine += [int(index) for index in indices]
            assert float(step.loss) * step.samples == pytest.approx(len(mine) * life.world)
            progress.advance(1)
            yield progress.facts(), mine


# --- real ranks ---


@pytest.fixture
def seed(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> int:
    """Decides who is killed, and when; it is printed, and a test may be given one to play that again."""
    seed = random.SystemRandom().randrange(2**32)
    with capsys.disabled():
        print(f"\n{request.node.name}: seed {seed}")
    return seed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_ranks_killed_in_worlds_of_four_two_three_and_one_do_every_step_once(
    tmp_path: Path, num_workers: int, seed: int
) -> None:
    assert_every_step_was_done_once(tmp_path, num_workers, seed)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("num_workers", [0, 2])
def test_and_so_they_do_forty_times(tmp_path: Path, num_workers: int, number: int, seed: int) -> None:
    assert_every_step_was_done_once(tmp_path, num_workers, seed)


def assert_every_step_was_done_once(folder: Path, num_workers: int, seed: int) -> None:
    command = [sys.executable, "-m", "relight.tests.workers.elastic_lives", str(folder), str(num_workers), str(seed)]
    machine = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    played = subprocess.run(command, env=machine, capture_output=True, text=True, timeout=550, check=False)
    assert played.returncode == 0, played.stdout + played.stderr
    notes = [[read(folder, life, rank) for rank in range(world)] for life, world in enumerate(lives.WORLDS)]
    for ranks, kill in zip(notes, lives.kills(seed), strict=False):
        noted = ranks[kill.rank][-1].get("step", ranks[kill.rank][0].get("resumed"))
        assert noted == kill.step - (kill.moment != "step"), f"{kill} was not how it ended"
    assert committed(notes) == {step: (epoch, sorted(batch)) for step, (epoch, batch) in lives.batches().items()}
    assert notes[-1][0][-1]["weights"] == pytest.approx(lives.undisturbed(), rel=1e-12, abs=1e-14)


def committed(notes: list[list[list[dict[str, Any]]]]) -> Done:
    """The steps of each life up to where the next one goes on: their epoch, and the samples of all ranks."""
    begins = [{rank[0]["resumed"] for rank in ranks} for ranks in notes]
    assert all(len(resumed) == 1 for resumed in begins), begins
    starts = [min(resumed) for resumed in begins]
    assert starts == sorted(starts)
    assert starts[-1] > 0, "no life went on from a checkpoint"
    done: Done = {}
    for ranks, start, end in zip(notes, starts, [*starts[1:], lives.STEPS], strict=True):
        for step in range(start + 1, end + 1):
            lines = [line for rank in ranks for line in rank if line.get("step") == step]
            assert len(lines) == len(ranks), f"step {step} was done by {len(lines)} of {len(ranks)} ranks"
            (epoch,) = {line["epoch"] for line in lines}
            done[step] = epoch, sorted(sample for line in lines for sample in line["samples"])
    return done


def read(folder: Path, life: int, rank: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"notes-{life}-{rank}.jsonl").read_text("utf-8").splitlines()]
