"""Where every rank is, read from real processes: in a loop, deep in C, stopped, or not Python at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.orchestrator.forking.dumping import STACKS, answer_with_stacks, listens, stacks_file
from relight.orchestrator.judging.hangs import Look
from relight.orchestrator.stacks import frames, look_at, state_of, tracer_of
from relight.tests.waiting import wait_until

RANK = """
import ctypes, os, sys, threading
from pathlib import Path
from relight.orchestrator.forking.dumping import answer_with_stacks

def spin():
    while True:
        pass

def hold_the_interpreter():
    while True:  # A signal ends this sleep.
        ctypes.PyDLL(None).sleep(1000)

def wait_for_ever():
    threading.Event().wait()

def become_another_program():
    os.execvp("sleep", ["sleep", "1000"])

answer_with_stacks(Path(sys.argv[1]), int(sys.argv[2]))
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
globals()[sys.argv[3]]()
"""


class Ranks:
    """Processes that do what they are told, and nothing more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[int, subprocess.Popen[str]] = {}

    def start(self, *doings: str) -> None:
        program = self.folder / "rank.py"
        program.write_text(RANK)
        for rank, doing in enumerate(doings):
            command = [sys.executable, str(program), str(self.folder), str(rank), doing]
            self.processes[rank] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for rank, process in self.processes.items():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            wait_until(
                lambda rank=rank, doing=doings[rank]: self._is_there(rank, doing), what=f"rank {rank} to be there"
            )

    def _is_there(self, rank: int, doing: str) -> bool:
        if doing == "become_another_program":
            return Path(f"/proc/{self.pids[rank]}/comm").read_text() == "sleep\n"
        return any(frame.function == doing for frame in self.look()[rank].stack)

    @property
    def pids(self) -> dict[int, int]:
        return {rank: process.pid for rank, process in self.processes.items()}

    def look(self) -> dict[int, Look]:
        return look_at(self.pids, self.folder, lambda rank: os.kill(self.pids[rank], STACKS))


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    ranks = Ranks(tmp_path)
    yield ranks
    for process in ranks.processes.values():
        process.kill()
        process.communicate()


def test_a_rank_says_where_it_is_whatever_it_does_and_goes_on(ranks: Ranks) -> None:
    ranks.start("spin", "hold_the_interpreter", "wait_for_ever")
    looks = ranks.look()
    for rank, doing in enumerate(("spin", "hold_the_interpreter", "wait_for_ever")):
        functions = [frame.function for frame in looks[rank].stack]
        assert doing in functions, looks[rank].text
        assert functions[-1] == "<module>"
        assert len(looks[rank].threads) == 2, "the main thread and the other one"
        assert looks[rank].text.count("most recent call first") == 2
        assert looks[rank].text.startswith(f"process {ranks.pids[rank]}: ")
    innermost = looks[1].stack[0]
    assert (innermost.file, innermost.source) == (str(ranks.folder / "rank.py"), "ctypes.PyDLL(None).sleep(1000)")
    assert all(process.poll() is None for process in ranks.processes.values())


def test_a_process_that_is_stopped_is_not_asked(ranks: Ranks) -> None:
    ranks.start("spin")
    os.kill(ranks.pids[0], signal.SIGSTOP)
    wait_until(lambda: state_of(ranks.pids[0]) == "T")
    began = time.monotonic()
    look = ranks.look()[0]
    assert time.monotonic() - began < 0.9, "it was waited for"
    assert look.stopped
    assert look.threads == ()
    assert look.text.startswith(f"process {ranks.pids[0]}: T (stopped)")


def test_a_program_that_has_no_handler_is_not_asked_for_it_would_die(ranks: Ranks) -> None:
    ranks.start("become_another_program")
    assert not listens(ranks.pids[0])
    look = ranks.look()[0]
    assert look.threads == ()
    assert ranks.processes[0].poll() is None


def test_one_that_does_not_answer_holds_up_nobody(ranks: Ranks) -> None:
    ranks.start("spin", "spin")
    looks = look_at(ranks.pids, ranks.folder, lambda rank: os.kill(ranks.pids[0], STACKS))
    assert looks[0].stack[0].function == "spin"
    assert looks[1].threads == ()
    assert looks[1].state == "R"


def test_a_process_that_is_gone_is_no_error(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert look_at({0: process.pid}, tmp_path, lambda _: None)[0] == Look("", (), f"process {process.pid}: gone")
    assert not listens(process.pid)
    assert tracer_of(process.pid) == 0


def test_what_py_spy_sees_is_added_where_it_is_installed(
    ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of that name stands in for it: what is ours is how it is called, and that it holds up nobody."""
    py_spy = tmp_path / "bin" / "py-spy"
    py_spy.parent.mkdir()
    py_spy.write_text('#!/bin/sh\necho "called with $*"\n')
    py_spy.chmod(py_spy.stat().st_mode | stat.S_IXUSR)
    ranks.start("spin")
    monkeypatch.setenv("PATH", str(py_spy.parent), prepend=os.pathsep)
    look = ranks.look()[0]
    assert look.text.endswith(f"py-spy:\ncalled with dump --nonblocking --pid {ranks.pids[0]}")
    assert look.stack[0].function == "spin"


def test_who_debugs_a_process_is_known() -> None:
    assert tracer_of(os.getpid()) == 0


def test_a_forked_process_answers_only_once_it_was_told_to(tmp_path: Path) -> None:
    assert not listens(os.getpid())
    pid = os.fork()
    if pid == 0:
        answer_with_stacks(tmp_path, 7)
        signal.pause()
        os._exit(0)
    try:
        wait_until(lambda: listens(pid))
        assert stacks_file(tmp_path, 7).read_text() == f"{threading.get_ident():#018x}\n"
        assert not listens(os.getpid())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_frames_of_a_file_with_blanks_and_quotes_are_read() -> None:
    block = 'Thread 0x1 (most recent call first):\n  File "/a b/"c".py", line 12 in <lambda>\n  ...\n'
    assert [(frame.file, frame.line, frame.function) for frame in frames(block)] == [('/a b/"c".py', 12, "<lambda>")]
