"""The process that workers are forked from: it has imported torch once, so that no worker has to.

    python -P -m relight.orchestrator.forking.zygote FD

It never touches an accelerator, never runs a tensor operation (a forked OpenMP pool hangs) and stays
single-threaded. It outlives attempts and dies with its launcher, and then nothing of what it started is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from ...configs.protocol import ENV_RUN_DIR
from . import entries
from .dumping import answer_with_stacks
from .ending import run_to_end
from .spawning import Entry, Spawn, receive, send

IMPORTS: Final = (
    "torch",
    "torch._dynamo",  # The first DDP() would import it: 1.5 s.
    "torch.distributed.checkpoint.state_dict",
    "torchvision",
    "fsspec",
    # By name: the rooms do not import each other, but this process is both.
    "relight.workers.main",
)
_PR_SET_PDEATHSIG: Final = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process as soon as its parent ends. Survives `exec`."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # It ended before we asked.
        os.kill(os.getpid(), signal.SIGKILL)


def outlive_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def import_all(names: tuple[str, ...] = IMPORTS) -> list[str]:
    """Import what workers will need; returns what could not be had. Only torch itself must be there."""
    notes = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # Two packages that do not fit together raise anything.
            if name == "torch":
                raise
            notes.append(f"{name}: {type(error).__name__}: {error}")
    return notes


@dataclass(slots=True)
class _Child:
    rank: int
    pid: int
    pidfd: int
    killed: bool = False


@dataclass(slots=True)
class Zygote:
    """Forks workers on request and says when they end. `environment` is what every worker starts from."""

    launcher: socket.socket
    environment: dict[str, str]
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    children: dict[int, _Child] = field(default_factory=dict)

    def serve(self) -> Entry | None:
        """Serve until the launcher is gone (None), or, in a child, until it is born: what it is to run."""
        self.selector.register(self.launcher, selectors.EVENT_READ)
        while True:
            ready = [key.data for key, _ in self.selector.select()]
            # Exits first: a worker that ended before we were told to kill has ended by itself.
            for child in ready:
                if child is not None:
                    self._reap(child)
            if None not in ready:
                continue
            try:
                document, _ = receive(self.launcher)
            except (EOFError, ConnectionError):
                self._kill()
                return None
            if "kill" in document:
                self._kill()
            elif self._spawn(spawn := Spawn.from_document(document)):
                return spawn.entry

    def _spawn(self, spawn: Spawn) -> bool:
        """Fork; True in the child."""
        zygote = os.getpid()
        with warnings.catch_warnings():
            # OpenBLAS may hold idle threads when OMP_NUM_THREADS is free; its own fork handlers look after them.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            die_with_parent(zygote)
            self._leave()
            _become(spawn, self.environment)
            return True
        pidfd = os.pidfd_open(pid)
        child = self.children[spawn.rank] = _Child(spawn.rank, pid, pidfd)
        self.selector.register(pidfd, selectors.EVENT_READ, child)
        self._tell({"spawned": spawn.rank, "pid": pid}, pidfd)
        return False

    def _leave(self) -> None:
        """In a child: let go of all that is the zygote's."""
        self.selector.close()
        self.launcher.close()
        for sibling in self.children.values():
            os.close(sibling.pidfd)

    def _kill(self) -> None:
        """End all workers, with all that lives in their process groups."""
        for child in self.children.values():
            ended = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            child.killed = ended is None
            _kill_group(child.pid)

    def _reap(self, child: _Child) -> None:
        # A zombie still holds the group's number, so it cannot be anybody else's: end what the worker left behind.
        _kill_group(child.pid)
        _, status = os.waitpid(child.pid, 0)
        self.selector.unregister(child.pidfd)
        os.close(child.pidfd)
        del self.children[child.rank]
        self._tell({"exited": child.rank, "status": status, "killed": child.killed})

    def _tell(self, document: dict[str, object], descriptor: int | None = None) -> None:
        with contextlib.suppress(ConnectionError):  # The launcher is gone: the next read says so.
            send(self.launcher, document, descriptor)


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # The worker itself, too: it may not have made its group yet.
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _become(spawn: Spawn, environment: dict[str, str]) -> None:
    """Turn a fresh fork into the worker that was asked for."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.environ.update(spawn.environment)
    for number, path in ((1, spawn.stdout), (2, spawn.stderr)):
        if path is not None:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(file, number)
            os.close(file)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # Python's generator does this by itself at a fork; torch's has one fixed default seed.
    _tie_forks_to_this_process()
    run_dir = spawn.environment.get(ENV_RUN_DIR)
    if run_dir is not None and spawn.entry.kind != "exec":
        answer_with_stacks(Path(run_dir), spawn.rank)


def _tie_forks_to_this_process() -> None:
    """Loader workers die with their trainer, even when it is killed and cannot tell them.

    Only what the main thread forks: the kernel sends the signal when the *thread* that forked ends.
    """
    trainer = os.getpid()
    forker: list[int] = []

    def note_forker() -> None:
        forker[:] = [os.getpid(), threading.get_native_id()]

    def tie() -> None:
        if forker == [trainer, trainer]:
            die_with_parent(trainer)

    os.register_at_fork(before=note_forker, after_in_child=tie)


def main() -> NoReturn:
    launcher_pid = os.getppid()
    die_with_parent(launcher_pid)
    launcher = socket.socket(fileno=int(sys.argv[1]))
    launcher.set_inheritable(False)
    environment = dict(os.environ)
    notes = import_all()
    # From here on the closed socket tells us, and leaves us the time to end the workers' groups.
    outlive_parent()
    gc.collect()
    gc.freeze()  # So that a worker's garbage collection does not copy the pages it shares with us.
    send(launcher, {"ready": notes})
    entry = Zygote(launcher, environment).serve()
    if entry is None:
        os._exit(0)
    run_to_end(lambda: entries.run(entry))


if __name__ == "__main__":
    main()
