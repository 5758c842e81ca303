"""How a forked worker ends: as Python ends, without taking apart what it has inherited.

A process that has imported torch spends more than a second of CPU on that, and a fork of one copies all its memory for
it: time that a restart would wait for. As the children of `multiprocessing` do, a worker waits for its threads, runs
what was registered to run at exit, and goes; files that its code left open are flushed, too.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import multiprocessing.util
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def run_to_end(body: Callable[[], int]) -> NoReturn:
    """Run `body`, whose result or exception decides the exit code as in any Python process; then end the process."""
    atexit.register(_end_daemons)  # After all that the body registers, and before what `multiprocessing` has.
    try:
        code = _exit_code_of(body)
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # What the interpreter calls itself.
        atexit._run_exitfuncs()  # noqa: SLF001  # What a child of `multiprocessing` calls.
    except BaseException:  # noqa: BLE001  # Python prints what goes wrong at its end, and goes on.
        traceback.print_exc()
        code = 1
    _flush_everything()
    os._exit(code)


def _exit_code_of(body: Callable[[], int]) -> int:
    try:
        return body()
    except SystemExit as wish:
        if wish.code is None or isinstance(wish.code, int):
            return (wish.code or 0) & 0xFF
        sys.stderr.write(f"{wish.code}\n")
        return 1
    except BaseException:  # noqa: BLE001  # The end of the process: nobody above could catch it.
        sys.excepthook(*sys.exc_info())
        return 1


def _end_daemons() -> None:
    """Loader workers, above all. At its exit `multiprocessing` asks each of them once and then waits for ever; but ours
    take the first SIGTERM for a notice (`workers.signals.outlive_notice`), and a stuck one hears none.
    """
    multiprocessing.util._run_finalizers(0)  # type: ignore[attr-defined]  # noqa: SLF001  # As it does: pools end theirs.
    daemons = [child for child in multiprocessing.active_children() if child.daemon]
    for end, patience_s in (("terminate", 0.1), ("terminate", 1.0), ("kill", 1.0)):
        for child in daemons:
            getattr(child, end)()
        ends_at = time.monotonic() + patience_s
        for child in daemons:
            child.join(max(0.0, ends_at - time.monotonic()))
        daemons = [child for child in daemons if child.is_alive()]


def _flush_everything() -> None:
    """Files that were opened in this process; what the zygote had is frozen and not listed."""
    files = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    opened = [each for each in gc.get_objects() if issubclass(type(each), files)]
    # Texts first: they flush into the buffers below them.
    for file in [*sorted(opened, key=lambda each: not isinstance(each, io.TextIOWrapper)), sys.stdout, sys.stderr]:
        with suppress(OSError, ValueError):  # A closed file, or one that nobody reads any more.
            file.flush()
    ctypes.CDLL(None).fflush(None)
