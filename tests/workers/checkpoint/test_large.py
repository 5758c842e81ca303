"""What a restore of a sharded state takes: memory for its share and one bucket, and every byte read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.tests.workers.ranks import play

SCENES = "relight.tests.workers.checkpoint.large"
RANKS = 2
SLACK_BYTES = 24 << 20
"""Of connections, threads, the allocator, and the blocks that hold what is everybody's."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    play(f"{SCENES}:saving", RANKS, root)
    return root


@pytest.mark.parametrize("scene", ["restoring_fsdp", "resharding", "live"])
def test_no_rank_takes_more_memory_than_its_share_and_one_bucket(directory: Path, scene: str) -> None:
    """Besides what a live model's weights wait in until all is proven, and blocks of which others need a part, too.

    Those lie in memory that the host's ranks share; when a replicated state is sharded that can be all of it, once.
    """
    for rank, told in enumerate(play(f"{SCENES}:{scene}", RANKS, directory)):
        waiting = told["held"] - told["new"]
        shared = told["size"] if scene == "resharding" else 0
        print(
            f"{scene}, rank {rank}: {told['peak'] >> 20} MiB more at most, for {told['new'] >> 20} MiB of new tensors, "
            f"{waiting >> 20} MiB that wait for the vote, up to {shared >> 20} MiB in shared memory, and a bucket of "
            f"{told['bucket'] >> 20} MiB"
        )
        assert told["peak"] <= told["new"] + waiting + shared + told["bucket"] + SLACK_BYTES
        assert told["new"] + waiting < told["size"] * 0.6


@pytest.mark.parametrize(("scene", "most"), [("restoring_fsdp", 1.0), ("resharding", 1.05), ("replicated", 1.0)])
def test_every_byte_is_read_once(directory: Path, scene: str, most: float) -> None:
    told = play(f"{SCENES}:{scene}", RANKS, directory)
    ratio = sum(each["read"] for each in told) / told[0]["size"]
    print(f"{scene}: {ratio:.3f} of the bytes that were saved are read")
    assert 0.99 < ratio <= most
