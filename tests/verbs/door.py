"""Commands by the dozen, each in a process of its own: one process imports everything once, and forks for each.

`from relight.tests.verbs.door import Door, Request, open_door`
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

_CAPABILITIES_3 = 0x20080522

VERBS = {
    "run": "{here}.yaml",
    "status": "{here}",
    "report": "{here} {here}.html",
    "ls": "{here}",
    "show": "{here}",
    "verify": "{here}",
    "diff": "{here} {here}",
    "export": "{here} {here}.pt --format state-dict",
    "import": "{here}.pt {here}",
    "cp": "{here} {here}-copy",
    "gc": "{here}",
}
"""Every command with what it cannot do without; `chaos` has nothing to do with a place."""


@dataclass(frozen=True, slots=True)
class Request:
    """`relight ARGUMENTS`. `humble`: what the modes of files forbid is forbidden to root, too.

    `interrupt_at`: Ctrl-C, or another signal, as soon as there is a file that this pattern matches.
    """

    arguments: Sequence[str]
    humble: bool = False
    interrupt_at: str = ""
    by: int = signal.SIGINT
    cwd: str = ""
    deadline_s: float = 60.0
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """`code`: as a shell gives it; -9 when it took longer than it was given."""

    code: int
    out: str
    err: str
    seconds: float


class Door:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, *arguments: str | Path, **options: Any) -> Answer:
        return self.all([Request(list(map(str, arguments)), **options)])[0]

    def all(self, requests: Sequence[Request]) -> list[Answer]:
        """All at once; their answers in the same order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([asdict(request) for request in requests]), file=self._process.stdin, flush=True)
        return [Answer(**each) for each in json.loads(self._process.stdout.readline())]


@contextmanager
def open_door() -> Iterator[Door]:
    with subprocess.Popen(
        [sys.executable, "-m", "relight.tests.verbs.door"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    ) as process:
        yield Door(process)
        assert process.stdin is not None
        process.stdin.close()


def _serve() -> None:
    _warm_up()
    for line in sys.stdin:
        children = [_Child(Request(**each)) for each in json.loads(line)]
        sys.stdout.write(json.dumps([asdict(child.answer()) for child in children]) + "\n")
        sys.stdout.flush()


def _warm_up() -> None:
    """Whatever is imported and made at the first use is there before the first fork."""
    import s3fs

    from relight.__main__ import main
    from relight.orchestrator.commands import comparing, elements, inspection, printing, status_view
    from relight.orchestrator.run import run

    _ = comparing, elements, inspection, printing, run, s3fs, status_view
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123 -- a device
        for verb, arguments in VERBS.items():
            if verb != "run":
                with contextlib.suppress(SystemExit):
                    main([verb, *arguments.format(here="/nowhere/at/all").split()])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Child:
    def __init__(self, request: Request) -> None:
        self._request = request
        self._out, self._err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115 -- `answer` closes them
        self._began = time.monotonic()
        self._pid = os.fork()
        if not self._pid:
            _become(request, self._out.fileno(), self._err.fileno())

    def answer(self) -> Answer:
        code = _await(self._pid, self._request, self._began + self._request.deadline_s)
        seconds = time.monotonic() - self._began
        return Answer(code, _all_of(self._out), _all_of(self._err), seconds)


def _all_of(file: IO[str]) -> str:
    with file:
        file.seek(0)
        return file.read()


def _become(request: Request, out: int, err: int) -> None:
    """The command; never returns."""
    import traceback

    from relight.__main__ import main

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.environ.update(request.env)
    if request.cwd:
        os.chdir(request.cwd)
    if request.humble:
        _give_up_capabilities()
    code: Any = 0
    try:
        main(request.arguments)
    except SystemExit as left:
        code = left.code
    except BaseException:  # noqa: BLE001 -- the process ends here, and shows what the interpreter would
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _give_up_capabilities() -> None:
    """All of root's, by which it may what others may not; it owns its files all the same."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset((ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def _await(child: int, request: Request, ends_at: float) -> int:
    wanted = request.interrupt_at
    watched = os.pidfd_open(child)
    try:
        while not select.select([watched], [], [], 0.01 if wanted else 0.2)[0]:
            if wanted and glob.glob(wanted, include_hidden=True):  # noqa: PTH207 -- hidden files are what is looked for
                os.kill(child, request.by)
                wanted = ""
            if time.monotonic() > ends_at:
                os.kill(child, signal.SIGKILL)
                break
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(watched)


if __name__ == "__main__":
    _serve()
