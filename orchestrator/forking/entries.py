"""What a worker runs, as if Python had been started with it: a function, a script, a module, or any program.

An exception that nobody catches becomes a failure report for the launcher, which prints the first cause of all
ranks once; so nothing is printed here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import runpy
import sys
import types
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

from ...configs.failure import ENV_ERROR_FILE, FailureReport
from .spawning import Entry


def run(entry: Entry) -> int:
    """Run it to its end; returns the exit code, or raises SystemExit as the code itself did."""
    worker = os.getpid()
    try:
        return _KINDS[entry.kind](entry)
    except SystemExit:
        raise
    except BaseException as error:
        # A child that the user's code forked is not the worker; and without a launcher Python's own way is right.
        if os.getpid() != worker or not os.environ.get(ENV_ERROR_FILE):
            raise
        _without_our_frames(error)
        FailureReport.of(error).write()
        return 1


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
    os.execvp(entry.target, [entry.target, *entry.argv])  # noqa: S606  # No shell is wanted.


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
