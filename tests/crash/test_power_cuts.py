"""The power goes in mid-save on real filesystems: what was announced as committed is there when it comes back."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relight.tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "losetup", "unshare")

QUICK_CUTS = 40
CUTS = 600
# In namespaces of its own: mounts and processes end with it, however the test ends.
ALONE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-m"]
CUTTER = [*ALONE, "relight.tests.crash.power_cuts"]
EXT4 = pytest.param("ext4", marks=pytest.mark.needs("mkfs.ext4"))
XFS = pytest.param("xfs", marks=pytest.mark.needs("mkfs.xfs"))


def cut(kind: str, scratch: Path, **asked: object) -> dict[str, Any]:
    """What `power_cuts` saw."""
    words = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"TMPDIR": str(scratch)}
    done = subprocess.run([*CUTTER, kind, *words], env=environment, stdout=subprocess.PIPE, timeout=280, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def show(kind: str, seed: int, figures: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(
            f"\npower cuts on {kind}: {figures['cuts']} cuts, {figures['acknowledged']} acknowledged commits, "
            f"{figures['unfinished']} saves cut short, {figures['unheard']} durable before they were announced, "
            f"{len(figures['lost'])} lost, {len(figures['false'])} false; seed {seed}; {figures['seconds']:.1f} s"
        )


@pytest.mark.parametrize("kind", [EXT4, XFS])
def test_no_power_cut_loses_what_was_announced(kind: str, in_memory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(1_000_000)
    figures = cut(kind, in_memory, cuts=QUICK_CUTS, seed=seed)
    show(kind, seed, figures, capsys)
    assert figures["lost"] == figures["false"] == []
    assert figures["cuts"] == QUICK_CUTS
    assert figures["acknowledged"] > figures["cuts"]
    assert figures["unfinished"] >= 5


@pytest.mark.soak
@pytest.mark.parametrize("kind", [EXT4, XFS])
def test_600_power_cuts_lose_nothing(kind: str, in_memory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(1_000_000)
    figures = cut(kind, in_memory, cuts=CUTS, seed=seed)
    show(kind, seed, figures, capsys)
    assert figures["lost"] == figures["false"] == []
    assert figures["cuts"] == CUTS


@pytest.mark.parametrize("kind", [EXT4, XFS])
@pytest.mark.parametrize(
    ("disk", "complaint"), [("NeverSyncsFolders", "lost"), ("NeverSyncsFiles", "false")], ids=["folders", "files"]
)
def test_power_cuts_find_what_is_not_synced(kind: str, disk: str, complaint: str, in_memory: Path) -> None:
    """One missing fsync is enough to lose what was announced, or to find what is no checkpoint."""
    figures = cut(kind, in_memory, disk=disk, cuts=200, seconds=20, seed=1)
    assert figures[complaint], f"{figures['cuts']} cuts"
    assert figures["cuts"] < 200


@pytest.mark.parametrize("kind", [EXT4, XFS])
def test_a_filesystem_that_shuts_down_in_the_sync_of_a_folder_lets_no_commit_be_announced(
    kind: str, in_memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not every filesystem answers that sync with an error: xfs says that all is well."""
    command = [*ALONE, "relight.tests.crash.last_words", kind]
    environment = os.environ | {"TMPDIR": str(in_memory)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=60, check=True)
    figures = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\nshutdowns in a sync on {kind}: {figures}")
    assert figures["lost"] == 0
    assert figures["places"] >= 4


@pytest.mark.needs("mkfs.ext4")
def test_nothing_is_left_mounted_when_the_cutter_is_killed(in_memory: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [*CUTTER, "ext4", "--seed", "1"], env=os.environ | {"TMPDIR": str(in_memory)}, timeout=2, check=False
        )
    wait_until(lambda: str(in_memory) not in _attached(), what="the loop device's end")
    assert str(in_memory) not in Path("/proc/self/mountinfo").read_text()


def _attached() -> str:
    return subprocess.run(["losetup", "--all"], stdout=subprocess.PIPE, text=True, check=True).stdout
