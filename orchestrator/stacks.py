"""What every rank is doing, seen from outside: its Python stacks if it answers, what the kernel knows if not."""

from __future__ import annotations

import linecache
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from .forking.dumping import listens, stacks_file
from .judging.hangs import Frame, Look

_ANSWER_S: Final = 1.0
_QUIET_S: Final = 0.05
"""A dump has ended when nothing was added to it for so long."""
_SPY_S: Final = 3.0
_MOST_CHARACTERS: Final = 100_000

_THREAD: Final = re.compile(r"^(?:Current thread|Thread) (0x[0-9a-f]+)")
_FRAME: Final = re.compile(r'^  File "(.+)", line (\d+) in (.+)$')
_STOPPED: Final = frozenset("Tt")


def state_of(pid: int) -> str:
    """The kernel's letter: R runs, S sleeps, D cannot be woken, T was stopped, t is traced; '' is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def tracer_of(pid: int) -> int:
    """The process that debugs it, or 0."""
    found = re.search(r"^TracerPid:\s*(\d+)", _proc(pid, "status"), re.MULTILINE)
    return int(found.group(1)) if found else 0


def look_at(pids: Mapping[int, int], run_dir: Path, ask: Callable[[int], None]) -> dict[int, Look]:
    """Every rank of `pids`; `ask` sends one the signal that it answers with its stacks. Takes a second at the most,
    where py-spy is installed four.
    """
    states = {rank: state_of(pid) for rank, pid in pids.items()}
    before = {
        rank: stacks_file(run_dir, rank).stat().st_size
        for rank, pid in pids.items()
        if stacks_file(run_dir, rank).exists() and states[rank] not in _STOPPED and listens(pid)
    }
    for rank in before:
        ask(rank)
    answers = _answers(before, run_dir)
    spied = _spy(pids)
    return {rank: _look(states[rank], _facts(pid), answers.get(rank, ""), spied[rank]) for rank, pid in pids.items()}


def _answers(before: Mapping[int, int], run_dir: Path) -> dict[int, str]:
    """What was added to the files, each below its own first line."""
    deadline, pause = time.monotonic() + _ANSWER_S, threading.Event()
    sizes, settled = dict(before), False
    while not settled and time.monotonic() < deadline:
        pause.wait(_QUIET_S)
        now = {rank: stacks_file(run_dir, rank).stat().st_size for rank in before}
        settled = now == sizes and all(now[rank] > before[rank] for rank in before)
        sizes = now
    answers = {}
    for rank, size in before.items():
        with stacks_file(run_dir, rank).open(errors="replace") as file:
            head = file.readline()
            file.seek(size)
            answer = file.read(_MOST_CHARACTERS)
        if answer:
            answers[rank] = head + answer
    return answers


def _look(state: str, facts: str, answer: str, spied: str) -> Look:
    main, _, dump = answer.partition("\n")
    blocks = _blocks(dump)
    # Python lists its main thread last, for people it comes first.
    blocks.sort(key=lambda block: not block.startswith((f"Thread {main}", f"Current thread {main}")))
    text = "\n\n".join([facts, *blocks, *([f"py-spy:\n{spied}"] if spied else [])])
    return Look(state, tuple(frames(block) for block in blocks), text[:_MOST_CHARACTERS])


def _blocks(dump: str) -> list[str]:
    """One for each thread."""
    blocks: list[list[str]] = []
    for line in dump.splitlines():
        if _THREAD.match(line):
            blocks.append([line])
        elif blocks and line:
            blocks[-1].append(line)
    return ["\n".join(block) for block in blocks]


def frames(block: str) -> tuple[Frame, ...]:
    """Of one thread, as faulthandler writes it: the innermost first."""
    found = (_FRAME.match(line) for line in block.splitlines())
    return tuple(
        Frame(match[1], int(match[2]), match[3], linecache.getline(match[1], int(match[2])).strip())
        for match in found
        if match
    )


def _facts(pid: int) -> str:
    """One line. Some of it is for root alone, or for nobody in a container."""
    state = re.search(r"^State:\s*(.+)$", _proc(pid, "status"), re.MULTILINE)
    facts = [f"process {pid}: {state[1] if state else 'gone'}"]
    for name, what in (("wchan", "in the kernel at"), ("syscall", "system call")):
        value = _proc(pid, name).partition(" ")[0].strip()
        if value not in ("", "0", "-1", "running"):
            facts.append(f"{what} {value}")
    return ", ".join(facts)


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def _spy(pids: Mapping[int, int]) -> dict[int, str]:
    """What py-spy sees, where it is installed: programs that cannot answer, and the names of threads."""
    program = shutil.which("py-spy")
    if program is None:
        return dict.fromkeys(pids, "")
    deadline = time.monotonic() + _SPY_S
    with ExitStack() as stack:
        # Not held up by it: a process that is stopped would never come to be held.
        commands = {rank: [program, "dump", "--nonblocking", "--pid", str(pid)] for rank, pid in pids.items()}
        spies = {
            rank: stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
            for rank, command in commands.items()
        }
        return {rank: _hear(spy, deadline) for rank, spy in spies.items()}


def _hear(spy: subprocess.Popen[str], deadline: float) -> str:
    try:
        return spy.communicate(timeout=max(0.0, deadline - time.monotonic()))[0].strip()
    except subprocess.TimeoutExpired:
        spy.kill()
        return ""
