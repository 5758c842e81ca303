"""A run whose workers are killed goes on with fewer ranks: each of them takes more, in parts that fit its memory."""

from __future__ import annotations

import random
import signal
from collections import Counter, defaultdict
from pathlib import Path

from relight.tests.e2e.elastic_task import GROUP
from relight.tests.e2e.running import Run, started
from relight.tests.e2e.tiny_task import SAMPLES
from relight.workers.order import BucketedOrder
from relight.workers.sampler import GlobalBatchSampler

EPOCHS, EPOCH_STEPS = 2, 16
LARGEST = 7
OPTIONS = (
    "task=elastic_task:Elastic",
    f"train.max_per_rank={LARGEST}",
    f"train.epochs={EPOCHS}",
    f"train.batch_size={GROUP}",
    "checkpoint.every=5",
    "data.num_workers=0",
)


def test_one_rank_takes_the_steps_of_two_in_more_parts(folder: Path, dice: random.Random) -> None:
    killed, preempted = dice.randrange(6, 10), dice.randrange(12, 20)
    wide = Run(folder, *OPTIONS, f"task_args.kill=[[{dice.randrange(2)}, {killed}]]")
    with started(wide) as launcher:
        wide.await_step(preempted)
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(120) == 75, wide.text
    narrow = Run(folder, *OPTIONS, ranks=1)
    assert narrow.finish() == 0, narrow.text
    assert narrow.text.count("resumed from step") == 2
    assert f"{EPOCHS * EPOCH_STEPS}/{EPOCHS * EPOCH_STEPS}" in narrow.text  # As many steps as were planned on two.
    assert_every_step_was_seen_once(narrow)


def assert_every_step_was_seen_once(run: Run) -> None:
    """Of each step there is a whole one, and whatever there is of it in another life is part of the same."""
    seen: dict[tuple[str, int], list[int]] = defaultdict(list)
    parts: Counter[tuple[int, int]] = Counter()
    for rank in range(2):
        for line in run._lines(f"seen-{rank}.jsonl"):
            assert len(line["samples"]) <= LARGEST
            seen[line["life"], line["step"]] += line["samples"]
            parts[line["world"], line["step"]] += rank == 0
    wanted = global_batches()
    assert all(not Counter(samples) - Counter(wanted[step]) for (_, step), samples in seen.items())
    whole = {step for (_, step), samples in seen.items() if sorted(samples) == sorted(wanted[step])}
    assert whole == set(wanted)
    last = EPOCHS * EPOCH_STEPS - 3
    assert parts[1, last] == 5, "32 samples, no more than 7 at once"


def global_batches() -> dict[int, list[int]]:
    order = BucketedOrder([index % 7 for index in range(SAMPLES)], group=GROUP)
    sampler = GlobalBatchSampler(SAMPLES, batch_size=GROUP, rank=0, world_size=1, seed=0, order=order)
    batches: list[list[int]] = []
    for epoch in range(EPOCHS):
        sampler.set_position(epoch, 0)
        batches += sampler
    return dict(enumerate(batches, 1))
