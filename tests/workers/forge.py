"""A process that has imported torch, once for all tests: whatever is called in it runs in a fork of its own.

`run("module:function", arguments, environment, output)` returns when that fork has ended, with its exit status.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

DEADLINE_S: Final = 120
MACHINE: Final = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""What torch reads when it is imported. Ranks that all took every processor would stand in each other's way."""
IMPORTS: Final = ("torch._dynamo", "torch.distributed.checkpoint.state_dict")
"""What the ranks would import. Nothing of our own: that is imported in the fork, as it is then."""

_forges: list[subprocess.Popen[str]] = []


def run(function: str, arguments: Sequence[str], environment: Mapping[str, str], output: Path) -> int:
    """0 if it returned. What it prints is in `output`. After `DEADLINE_S` it gets a TimeoutError."""
    forge = _forges[0] if _forges else _open()
    order = {
        "function": function,
        "arguments": list(arguments),
        "environment": {**os.environ, **environment, **MACHINE},
        "folder": str(Path.cwd()),
        "output": str(output),
    }
    assert forge.stdin is not None
    assert forge.stdout is not None
    try:
        forge.stdin.write(json.dumps(order) + "\n")
        forge.stdin.flush()
        answer = forge.stdout.readline()
        assert answer, "the process that all tests share has died"
        return int(answer)
    except BaseException:  # Interrupted, say: the answer that comes would be taken for the next one's.
        close()
        raise


def _open() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from relight.tests.workers.forge import serve; serve()"]
    forge = subprocess.Popen(
        command, env={**os.environ, **MACHINE}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    _forges.append(forge)
    return forge


@atexit.register
def close() -> None:
    while _forges:
        forge = _forges.pop()
        forge.kill()
        forge.communicate()


def serve() -> None:
    """Until there is nobody any more who could ask."""
    for name in IMPORTS:
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _carry_out(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _carry_out(order: dict[str, Any]) -> None:
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for there, here in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(there, here)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(DEADLINE_S)
    try:
        module, _, function = order["function"].partition(":")
        getattr(importlib.import_module(module), function)(*order["arguments"])
    except BaseException:  # noqa: BLE001  # A fork must end here, whatever happened.
        traceback.print_exc()
        _leave(1)
    _leave(0)


def _too_late(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"not done after {DEADLINE_S} s")


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
