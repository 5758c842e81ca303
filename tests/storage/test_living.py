"""Who persists on this host: what a lock says, and nothing that a dead process has written."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from relight.storage import living
from relight.storage.living import Living, State
from relight.tests.waiting import wait_until

URL = "/runs/of-a-test"


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders that are looked at, apart from everybody's."""
    parents = [tmp_path / "memory", tmp_path / "temporary"]
    for parent in parents:
        parent.mkdir()
    monkeypatch.setattr(living, "_parents", lambda: parents)
    return parents[0]


def of_a_dead_trainer(rank: int = 0) -> Living:
    """Its trainer's number has been taken again since, by this process, which was started later."""
    here = Living.announce(URL, rank)
    content = json.dumps({"rank": rank, "trainer": os.getpid(), "started": 1})
    os.pwrite(here.descriptor, content.ljust(200).encode(), 2)
    return here


def test_one_of_a_living_trainer_is_seen_and_is_nobody_s_predecessor(memory: Path) -> None:
    here = Living.announce(URL, 3)
    assert living.everyone(URL) == [living.Seen(here.path, 3, State.ATTENDED, is_predecessor=False)]
    assert living.everyone("/runs/another") == []
    assert living.predecessors(URL) == []
    assert living.wait_sealed(URL, 0)
    assert living.wait_persisted(URL, 0)
    living.call_off(URL)
    assert not here.is_called_off()
    assert here.path.is_relative_to(memory)
    here.end()
    assert not here.path.exists()
    assert living.everyone(URL) == []


def test_a_predecessor_is_waited_for_as_far_as_asked() -> None:
    here = of_a_dead_trainer(rank=2)
    assert [each.rank for each in living.predecessors(URL)] == [2]
    assert living.predecessors(URL, ranks=[0, 1]) == []
    assert not living.wait_sealed(URL, 0.01)
    here.tell(State.SEALING)
    assert not living.wait_sealed(URL, 0.01)
    assert living.wait_sealed(URL, 0.01, ranks=[1])
    here.tell(State.PERSISTING)
    assert living.wait_sealed(URL, 0.01)
    assert not living.wait_persisted(URL, 0.01)
    assert living.wait_persisted(URL, 0.01, ranks=[1])
    assert not here.is_called_off()
    living.call_off(URL)
    assert here.is_called_off()
    here.end()
    assert living.wait_persisted(URL, 0.01)


def test_what_nobody_has_locked_is_removed_by_whoever_looks() -> None:
    here = of_a_dead_trainer()
    os.close(here.descriptor)
    assert here.path.exists()
    assert living.wait_persisted(URL, 0.01)
    assert not here.path.exists()


def test_what_is_left_of_other_runs_goes_when_one_is_announced() -> None:
    left = Living.announce("/runs/another", 0)
    os.close(left.descriptor)
    here = Living.announce(URL, 0)
    assert not left.path.exists()
    assert here.path.exists()
    here.end()


def test_one_that_is_being_made_is_seen_only_when_it_is_whole() -> None:
    here = Living.announce(URL, 0)
    os.ftruncate(here.descriptor, 0)
    assert living.everyone(URL) == []
    assert here.path.exists()
    here.end()


def test_one_that_is_taken_for_dead_while_it_is_made_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    flock = fcntl.flock

    def look_first(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not looked:
            looked.append(True)
            assert living.everyone(URL) == []
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", look_first)
    here = Living.announce(URL, 0)
    assert here.path.exists()
    assert [each.path for each in living.everyone(URL)] == [here.path]
    here.end()


@pytest.mark.parametrize("trap", ["open to others", "a link", "a file"])
def test_a_folder_that_is_not_this_user_s_alone_is_not_used(memory: Path, tmp_path: Path, trap: str) -> None:
    folder = memory / f"relight-persisters-{os.geteuid()}"
    if trap == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif trap == "a file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o755)
    here = Living.announce(URL, 0)
    assert here.path.is_relative_to(tmp_path / "temporary")
    assert [each.path for each in living.everyone(URL)] == [here.path]
    here.end()
    assert not (tmp_path / "elsewhere").exists() or not list((tmp_path / "elsewhere").iterdir())


def test_where_no_folder_can_be_had_nobody_is_found_and_nothing_fails(tmp_path: Path) -> None:
    for parent in living._parents():
        parent.rmdir()
    here = Living.announce(URL, 0)
    here.tell(State.SEALING)
    assert not here.is_called_off()
    assert living.everyone(URL) == []
    here.end()


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: living._started(process.pid) is None)
    process.wait()
    assert living._started(os.getpid()) is not None
