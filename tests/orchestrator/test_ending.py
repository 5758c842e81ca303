"""A worker ends as Python ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import atexit, gc, sys, threading
from concurrent.futures import ThreadPoolExecutor
from relight.orchestrator.forking.ending import run_to_end

text = open(sys.argv[1] + ".text", "w"); text.write("kept")
raw = open(sys.argv[1] + ".raw", "wb"); raw.write(b"kept")
pool = ThreadPoolExecutor(1)

def body():
    atexit.register(print, "at exit")
    pool.submit(print, "pool")
    threading.Timer(0.05, print, ["late thread"]).start()
    BODY

run_to_end(body)
"""


def ending(body: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("BODY", body)
    command = [sys.executable, "-c", program, str(tmp_path / "file")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return 3", 3, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(70)", 70, ""),
        ("sys.exit(-1)", 255, ""),
        ("sys.exit('my words')", 1, "my words\n"),
    ],
)
def test_threads_are_awaited_exit_functions_run_and_files_flushed(
    body: str, code: int, said: str, tmp_path: Path
) -> None:
    result = ending(body, tmp_path)
    assert (result.returncode, result.stderr) == (code, said)
    assert sorted(result.stdout.splitlines()[:2]) == ["late thread", "pool"]
    assert result.stdout.splitlines()[2:] == ["at exit"]
    assert (tmp_path / "file.text").read_text() == "kept"
    assert (tmp_path / "file.raw").read_text() == "kept"


def test_an_error_is_printed_as_python_prints_it(tmp_path: Path) -> None:
    result = ending("raise KeyError('x')", tmp_path)
    assert result.returncode == 1
    assert result.stderr.endswith("KeyError: 'x'\n")
    assert result.stderr.count("Traceback") == 1
    assert (tmp_path / "file.text").read_text() == "kept"
