"""Processes that are forked ready to act, and act under strace, which may end them at any system call.

`from relight.tests.crash.traced import traced`; the other side of the pipe is `serve`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass
class Traced:
    """Processes that are ready to act, each under strace from its first step."""

    server: subprocess.Popen[str]

    def run(self, root: Path, strace: list[str]) -> str:
        """How it ended, and nothing of it is left running."""
        child = self._ask(str(root))
        tracer = subprocess.Popen(["strace", "-p", child, *strace], stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline()
        ended = self._ask("go")
        tracer.communicate(timeout=20)
        return ended

    def _ask(self, line: str) -> str:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print(line, file=self.server.stdin, flush=True)
        return self.server.stdout.readline().strip()


@contextlib.contextmanager
def traced(module: str) -> Iterator[Traced]:
    """A server of such processes: `module`, run as a program, calls `serve`."""
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield Traced(server)
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(20) == 0


def serve(act: Callable[[str], str]) -> None:
    """Reads lines: `URL` forks a process and prints its id; `go` lets it act and prints how that ended, or `killed`."""
    for line in sys.stdin:
        url = line.strip()
        ready, go = os.pipe()
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(ready, 1)
            os.write(tell, act(url).encode())
            os._exit(0)
        os.close(ready)
        os.close(tell)
        print(child, flush=True)
        assert sys.stdin.readline().strip() == "go"
        os.write(go, b"!")
        os.close(go)
        os.waitpid(child, 0)
        print(os.read(told, 1 << 16).decode() or "killed", flush=True)
        os.close(told)
