"""A sharded run is killed, goes on, and may go on in another world."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run

SHARDED = ("parallel=fsdp", "train.epochs=2", "data.num_workers=0")
STEPS = 32


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("fsdp"), *SHARDED)
    assert run.finish() == 0, run.text
    return run


def test_an_fsdp_run_whose_ranks_are_killed_ends_as_if_nothing_had_happened(
    undisturbed: Run, folder: Path, dice: random.Random
) -> None:
    kills = [[0, dice.randrange(3, 14)], [1, dice.randrange(16, STEPS)]]
    run = Run(folder, *SHARDED, f"task_args.kill={kills}")
    assert run.finish() == 0, run.text
    assert run.text.count("was killed by SIGKILL") == len(kills), run.text
    assert run.digest() == undisturbed.digest()
    assert run.samples() == undisturbed.samples()
    for rank in range(run.ranks):
        losses = undisturbed.losses(rank)
        assert all(losses[step] == loss for step, loss in run.losses(rank).items())


def test_it_goes_on_in_another_world_sharded_in_another_way(undisturbed: Run, folder: Path) -> None:
    """The mesh is made anew for as many ranks as there are."""
    first = Run(folder, *SHARDED)
    assert first.finish(f"train.steps={STEPS // 2}") == 0, first.text
    second = Run(folder, *SHARDED, ranks=3)
    assert second.finish("parallel={mode: hsdp, shard: 3}") == 0, second.text
    assert f"resumed from step {STEPS // 2}" in second.text
    assert second.steps_done() == STEPS
    assert {step: sorted(samples) for step, samples in second.samples().items()} == {
        step: sorted(samples) for step, samples in undisturbed.samples().items()
    }


def test_a_world_that_the_sizes_do_not_divide_is_refused_with_the_way_out(folder: Path) -> None:
    run = Run(folder, "parallel={mode: hsdp, shard: 2}", ranks=3)
    assert run.finish() == 78, run.text
    said = [line for line in run.text.splitlines() if not line.startswith("[Gloo]")]  # As older ones greet each other.
    assert said[0] == (
        "relight: parallel.shard=2 does not divide 3 ranks into equal groups. "
        "Start a multiple of 2 ranks, or set parallel.shard to one of 1, 3"
    )
