"""Commands and scripts one after another, each in a fork of a process that has imported what they need."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any, Final

IMPORTS: Final = (
    "relight.__main__",
    "relight.orchestrator.commands.inspection",
    "relight.orchestrator.reporting.making",
    "relight.workers.checkpoint.checkpointer",
    "relight.workers.exchange.exporting.export",
    "relight.workers.exchange.importing.bringing_in",
)


def main(told: str) -> None:
    """`told`: folders, and what is to be done in each: the words of a command, or the text of a script, run twice.

    The first failure in a folder ends it there, and is told in its `failed`.
    """
    for name in IMPORTS:
        importlib.import_module(name)
    for folder, todo in json.loads(told).items():
        os.chdir(folder)
        for each in todo:
            # 1 of `diff`: they differ.
            code = _in_fork(each) or (isinstance(each, str) and _in_fork(each))
            if code and not (code == 1 and each[0] == "diff"):
                Path("failed").write_text(f"{each} has ended with {code}:\n{Path('output').read_text()}")
                break


def _in_fork(each: Any) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code, output = 1, os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        code = _command(each) if isinstance(each, list) else _script(each)
    except BaseException:  # noqa: BLE001 -- a fork must end here, whatever happened
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _command(words: list[str]) -> int:
    from relight.__main__ import main as command

    sys.argv = ["relight", *words]
    try:
        command()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)


def _script(text: str) -> int:
    Path("train.py").write_text(text, encoding="utf-8")
    runpy.run_path("train.py", run_name="__main__")
    return 0
