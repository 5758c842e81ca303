"""Known faults of DCP's own writers: each is shown to be there, and to be absent with ours, by the same act."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relight.tests.servers import Server, environment
from relight.tests.workers.ranks import play

FAULTY = "relight.tests.workers.dcp.faulty"
CRASHING = "relight.tests.workers.dcp.crashing"
ALONE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-m"]
KINDS = [
    pytest.param("ext4", marks=pytest.mark.needs("mkfs.ext4")),
    pytest.param("xfs", marks=pytest.mark.needs("mkfs.xfs")),
]
WRITERS = ["dcp", "relight"]


@pytest.fixture(scope="module")
def overwritten(tmp_path_factory: pytest.TempPathFactory) -> Any:
    (found,) = play(f"{FAULTY}:overwriting", 1, tmp_path_factory.mktemp("overwritten"))
    return found


@pytest.mark.parametrize("which", WRITERS)
def test_a_crash_in_the_second_save_of_a_step_mixes_it_with_the_first(
    which: str, overwritten: dict[str, list[float]]
) -> None:
    """Nothing that is loaded says so: the number -1 was what the tensors held before."""
    assert overwritten[which] == ([1.0, 2.0] if which == "dcp" else [1.0])


@pytest.fixture(scope="module")
def after_a_death(tmp_path_factory: pytest.TempPathFactory) -> Any:
    (found,) = play(f"{FAULTY}:dead_thread", 1, tmp_path_factory.mktemp("death"))
    return found


@pytest.mark.parametrize("which", WRITERS)
def test_a_save_whose_writer_has_died_reports_success(which: str, after_a_death: dict[str, Any]) -> None:
    found = after_a_death[which]
    if which == "dcp":
        assert found["said"] == "done"
        assert found["promised"] == 65
        assert found["kept"] < 65
    else:
        assert "the writer dies" in found["said"]
        assert found["kept"] == 0


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    (found,) = play(f"{FAULTY}:flipped_bit", 1, tmp_path_factory.mktemp("flipped"))
    return found


@pytest.mark.parametrize("which", WRITERS)
def test_a_flipped_bit_is_loaded_as_if_nothing_were(which: str, flipped: dict[str, Any]) -> None:
    if which == "dcp":
        assert len(flipped[which]) == 2
        assert 1.0 in flipped[which]
    else:
        assert "rank-00000-of-00001.safetensors is damaged: the checksum of block 0" in flipped[which]


@pytest.fixture(scope="module")
def in_a_bucket(seaweed: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with environment(seaweed.environment):
        found: dict[str, Any]
        (found,) = play(f"{FAULTY}:partial_object", 1, tmp_path_factory.mktemp("partial"))
    return found


@pytest.mark.needs("weed")
@pytest.mark.parametrize("which", WRITERS)
def test_an_error_in_mid_shard_publishes_a_part_of_it(which: str, in_a_bucket: dict[str, Any]) -> None:
    found = in_a_bucket[which]
    assert "the GPU is gone" in found["said"]
    assert [size > 0 for size in found["data"]] == ([True] if which == "dcp" else [])


@pytest.fixture(scope="module", params=KINDS)
def cut(request: pytest.FixtureRequest) -> dict[str, Any]:
    return power_cuts(request.param, cuts=8, seed=random.randrange(1_000_000))


def power_cuts(kind: str, *, cuts: int, seed: int) -> dict[str, Any]:
    words = [f"{CRASHING}", kind, f"--cuts={cuts}", f"--seed={seed}"]
    shm = Path("/dev/shm")
    done = subprocess.run(
        [*ALONE, *words],
        env=os.environ | ({"TMPDIR": str(shm)} if shm.is_dir() else {}) | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        timeout=280,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    print(f"\npower cuts in dcp.save on {kind}, seed {seed}: {figures}")
    return figures


@pytest.mark.needs("root", "losetup", "unshare")
@pytest.mark.parametrize("which", WRITERS)
def test_a_power_cut_after_the_save_takes_it_away(which: str, cut: dict[str, Any]) -> None:
    said, *there = cut[which]
    if which == "dcp":
        assert said.startswith("gone")
        assert ".metadata" not in there
    else:
        assert said == "loaded [1.0]"


@pytest.mark.needs("root", "losetup", "unshare")
def test_no_power_cut_in_mid_save_loses_what_was_announced(cut: dict[str, Any]) -> None:
    assert cut["lost"] == []
    assert cut["acknowledged"] > 0


@pytest.mark.soak
@pytest.mark.needs("root", "losetup", "unshare")
@pytest.mark.parametrize("kind", KINDS)
def test_300_power_cuts_in_mid_save_lose_nothing(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        figures = power_cuts(kind, cuts=300, seed=random.randrange(1_000_000))
    assert figures["lost"] == []


@pytest.mark.parametrize(
    ("scene", "kills"), [("killed_at_every_third", 7), pytest.param("killed_everywhere", 20, marks=pytest.mark.soak)]
)
def test_a_kill_at_any_operation_on_the_disk_leaves_a_state_that_there_has_been(
    tmp_path: Path, scene: str, kills: int
) -> None:
    (found,) = play(f"{CRASHING}:{scene}", 1, tmp_path)
    print(f"\nkills in dcp.save: {found}")
    assert found["false"] == []
    assert found["kills"] >= kills
    assert set(found["standings"]) == {"committed"}
