"""What a worker runs, as if Python had been started with it: a function, a script, a module, or any program.

An exception that nobody catches becomes a failure report for the launcher, which prints the first cause of all
ranks once; so nothing is printed here.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import runpy
import signal
import sys
import types
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

from ...configs.failure import ENV_ERROR_FILE, FailureReport
from ...configs.protocol import ExitCode
from .spawning import Entry


class CannotRun(Exception):
    """The program is not there, or is none."""

    exit_code = ExitCode.BAD_CONFIG


def run(entry: Entry) -> int:
    """Run it to its end; returns the exit code, or raises SystemExit as the code itself did."""
    worker = os.getpid()
    try:
        return _KINDS[entry.kind](entry)
    except BaseException as error:
        # A child that the user's code forked is not the worker; and without a launcher Python's own way is right.
        if os.getpid() != worker or not os.environ.get(ENV_ERROR_FILE) or _says_nothing(error):
            raise
        _hear_no_more_of_children()
        _without_our_frames(error)
        report = FailureReport.of(error, with_traceback=not isinstance(error, SystemExit))
        if not report.write():
            raise
        return report.exit_code


def _hear_no_more_of_children() -> None:
    """DataLoader's handler raises, wherever Python is, when a worker of its has died: no report would be whole."""
    for _ in range(2):  # What is pending is raised by the first.
        with contextlib.suppress(Exception):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _says_nothing(error: BaseException) -> bool:
    """`SystemExit` with a number is no more than an exit code; with a text it is `sys.exit("no such dataset")`."""
    return isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int))


def _without_our_frames(error: BaseException) -> None:
    """The traceback starts where the user's code does."""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    error.__traceback__ = trace


def _is_machinery(file: str) -> bool:
    return file in (__file__, runpy.__file__, importlib.__file__) or file.startswith("<frozen ")


def _call(entry: Entry) -> int:
    _set_first_path(str(Path.cwd()))
    module, _, function = entry.target.partition(":")
    code: int = getattr(importlib.import_module(module), function)()
    return code


def _script(entry: Entry) -> int:
    path = Path(entry.target)
    sys.argv = [entry.target, *entry.argv]
    if path.is_dir() or path.suffix in {".zip", ".pyz"}:
        runpy.run_path(entry.target, run_name="__main__")
        return 0
    _set_first_path(str(path.resolve().parent))
    loader = SourceFileLoader("__main__", entry.target)
    code = loader.source_to_code(path.read_bytes(), entry.target)
    _execute_as_main(code, file=entry.target, loader=loader)
    return 0


def _module(entry: Entry) -> int:
    _set_first_path(str(Path.cwd()))
    spec = importlib.util.find_spec(entry.target)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{entry.target}.__main__")
    if spec is None or spec.loader is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {entry.target!r}", name=entry.target)
    code = spec.loader.get_code(spec.name)  # type: ignore[attr-defined]  # InspectLoader; what `python -m` needs, too
    sys.argv = [spec.origin, *entry.argv]
    _execute_as_main(code, file=spec.origin, loader=spec.loader, spec=spec)
    return 0


def _exec(entry: Entry) -> int:
    try:
        os.execvp(entry.target, [entry.target, *entry.argv])  # noqa: S606  # No shell is wanted.
    except OSError as error:
        raise CannotRun(f"{entry.target} cannot be run: {error.strerror}") from None


def _execute_as_main(code: types.CodeType, *, file: str, loader: object, spec: ModuleSpec | None = None) -> None:
    """Not `runpy`, which takes `__main__` away again before atexit functions and late threads are through."""
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=file, __loader__=loader, __spec__=spec, __builtins__=__builtins__, __cached__=None)
    main.__package__ = spec.parent if spec is not None else None
    sys.modules["__main__"] = main
    exec(code, main.__dict__)  # noqa: S102  # Running the user's script is what this is for.


def _set_first_path(directory: str) -> None:
    """The zygote runs with `-P`, so that a module of the user cannot shadow one of ours; a worker is a plain Python."""
    if not os.environ.get("PYTHONSAFEPATH"):
        sys.path.insert(0, directory)


_KINDS = {"call": _call, "script": _script, "module": _module, "exec": _exec}
