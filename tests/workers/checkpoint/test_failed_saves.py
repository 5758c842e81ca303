"""One rank's storage refuses everything, even the word that it failed: the others hear of it through the votes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.tests.workers.checkpoint.trouble import EVERY
from relight.tests.workers.ranks import play

SCENES = "relight.tests.workers.checkpoint.trouble"


@pytest.fixture
def in_the_way(tmp_path: Path) -> Path:
    """A file where the run's folder should be."""
    path = tmp_path / "in the way"
    path.write_text("mine")
    return path


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem with not a byte left."""
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        (folder / "filler").write_bytes(bytes(64 << 10))
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("cause", ["in_the_way", pytest.param("full", marks=pytest.mark.needs("root", "mount"))])
def test_every_rank_knows_at_once_and_the_next_save_is_tried(
    tmp_path: Path, cause: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trouble").write_text(str(request.getfixturevalue(cause)))
    answers = play(f"{SCENES}:during", 2, tmp_path)
    heard_s, over_s = (max(answer[key] for answer in answers) for key in ("heard_s", "over_s"))
    with capsys.disabled():
        print(f"\n{cause}: every rank knew after {heard_s:.2f} s, rank 0 had given up after {over_s:.2f} s (of 60 s)")
    for answer in answers:
        assert 0 < answer["heard_s"] < 10
        assert 0 < answer["over_s"] < 10
        assert answer["committed"] == -1
        assert answer["steps"][-1] == 2 * EVERY  # Nothing is left of the failed one; the next one was made.


def test_a_last_save_that_cannot_be_is_no_long_wait(tmp_path: Path, in_the_way: Path) -> None:
    (tmp_path / "trouble").write_text(str(in_the_way))
    answers = play(f"{SCENES}:at_the_end", 2, tmp_path)
    for answer in answers:
        assert answer["seconds"] < 10
        assert answer["error"].startswith(
            "StorageTrouble: the final checkpoint of step 98 could not be saved: step 98: another rank could not write "
            "its shard, nor say why in the storage. See that rank's log"
        )
    assert not list((tmp_path / "run" / "checkpoints").glob("*/manifest.json"))
