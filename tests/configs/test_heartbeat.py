"""Heartbeats: what one process beats another one reads, and nothing else is taken for a beat."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from relight.configs.heartbeat import Beat, Heartbeat, Phase, heartbeat_path, read_beat
from relight.tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BEATING_RANK = """
import sys
from pathlib import Path
from relight.configs.heartbeat import Heartbeat, Phase
heartbeat = Heartbeat(Path(sys.argv[1]), rank=3)
for step in range(10**9):
    heartbeat.beat(Phase.TRAINING, step=step, committed_step=step - step % 100)
"""


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", _BEATING_RANK, str(tmp_path)]) as rank:
        yield rank
        rank.kill()


def _step(run_dir: Path) -> int:
    beat = read_beat(run_dir, 3)
    return beat.step if beat else -1


def test_a_launcher_reads_the_beats_of_a_living_rank(tmp_path: Path, beating: subprocess.Popen[bytes]) -> None:
    first = wait_until(lambda: _step(tmp_path) > 0 and read_beat(tmp_path, 3), what="a first beat")
    later = wait_until(lambda: _step(tmp_path) > first.step and read_beat(tmp_path, 3), what="a later beat")
    assert (later.phase, later.pid) == (Phase.TRAINING, beating.pid)
    assert later.at_ns > first.at_ns
    assert later.committed_step <= later.step


def test_a_reader_never_meets_a_field_half_written(tmp_path: Path, beating: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: _step(tmp_path) > 0, what="a first beat")
    beats = [beat for _ in range(20_000) if (beat := read_beat(tmp_path, 3))]
    assert len(beats) == 20_000
    assert {beat.pid for beat in beats} == {beating.pid}
    for field in ("step", "committed_step", "at_ns"):
        seen = [getattr(beat, field) for beat in beats]
        assert seen == sorted(seen), field
    assert beats[0].step < beats[-1].step


def test_the_last_beat_outlives_a_killed_rank(tmp_path: Path, beating: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: _step(tmp_path) > 0, what="a first beat")
    beating.kill()
    assert beating.wait() == -signal.SIGKILL
    last = read_beat(tmp_path, 3)
    assert last is not None
    assert last.step > 0
    assert last == read_beat(tmp_path, 3)


def test_a_stopped_rank_does_not_beat(tmp_path: Path, beating: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: _step(tmp_path) > 0, what="a first beat")
    beating.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, beating.pid, os.WSTOPPED)
    stopped_at = read_beat(tmp_path, 3)
    assert stopped_at is not None
    assert stopped_at.at_ns < time.monotonic_ns()
    assert read_beat(tmp_path, 3) == stopped_at


def test_a_rank_is_starting_until_it_says_otherwise(tmp_path: Path) -> None:
    before_ns = time.monotonic_ns()
    with Heartbeat(tmp_path, rank=0):
        beat = read_beat(tmp_path, 0)
    assert beat is not None
    assert beat == Beat(Phase.STARTING, -1, -1, -1, os.getpid(), beat.at_ns)
    assert before_ns <= beat.at_ns <= time.monotonic_ns()


def test_what_a_rank_declares_is_read_with_its_beat(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, rank=0) as heartbeat:
        heartbeat.beat(Phase.SAVING, step=7, committed_step=5, allowance_s=330.5, stalled_ns=2**40)
        declared = read_beat(tmp_path, 0)
        heartbeat.beat(Phase.TRAINING, step=8, committed_step=5)
        plain = read_beat(tmp_path, 0)
    assert declared is not None
    assert plain is not None
    assert (declared.allowance_s, declared.stalled_ns) == (330.5, 2**40)
    assert (plain.allowance_s, plain.stalled_ns) == (0.0, 0)


def test_a_restarted_rank_takes_over_the_file_of_the_dead_one(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, rank=0) as dead:
        dead.beat(Phase.TRAINING, step=7, committed_step=5)
    with Heartbeat(tmp_path, rank=0):
        beat = read_beat(tmp_path, 0)
    assert beat is not None
    assert (beat.phase, beat.step) == (Phase.STARTING, -1)


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_is_read_as_it_was_written(tmp_path: Path, phase: Phase) -> None:
    with Heartbeat(tmp_path, rank=0) as heartbeat:
        heartbeat.beat(phase, step=2**40, committed_step=2**40 - 1)
        beat = read_beat(tmp_path, 0)
    assert beat is not None
    assert (beat.phase, beat.step, beat.committed_step) == (phase, 2**40, 2**40 - 1)


@pytest.mark.parametrize("content", [None, b"", b"RLHB", bytes(64), b"RLHB" + bytes(61)], ids=repr)
def test_what_is_no_beat_is_not_taken_for_one(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        heartbeat_path(tmp_path, 0).write_bytes(content)
    assert read_beat(tmp_path, 0) is None


def test_only_the_owner_may_read_a_heartbeat(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, rank=0):
        assert heartbeat_path(tmp_path, 0).stat().st_mode & 0o777 == 0o600
