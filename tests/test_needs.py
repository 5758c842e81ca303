"""A missing tool skips a test on a laptop and fails it in CI, with the reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_CONFTEST: Final = Path(__file__).with_name("conftest.py")

_TESTS: Final = """
import pytest

@pytest.mark.needs("no-such-program")
def test_that_needs_what_is_missing(): raise AssertionError

@pytest.mark.needs("sh")
def test_that_needs_what_is_there(): pass
"""


_FOREIGN: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "PET_NNODES", "RELIGHT_CONFIG", "SLURM_JOB_ID")


def _run(place: Path, tests: str, **environment: str) -> str:
    """What pytest prints for `tests` under a copy of our conftest."""
    shutil.copy(_CONFTEST, place)
    (place / "test_sample.py").write_text(tests)
    command: list[str | Path] = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "--rootdir", place]
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=place, stdout=subprocess.PIPE, text=True, check=False
    ).stdout


def test_on_a_laptop_a_missing_tool_skips_with_its_debian_package(tmp_path: Path) -> None:
    printed = _run(tmp_path, _TESTS, CI="")
    assert "needs no-such-program (Debian package no-such-program)" in printed
    assert "1 passed, 1 skipped" in printed


def test_in_ci_a_missing_tool_is_an_error(tmp_path: Path) -> None:
    printed = _run(tmp_path, _TESTS, CI="true")
    assert (
        "needs no-such-program (Debian package no-such-program); in CI that is a failure: .ci/run installs" in printed
    )
    assert "1 passed, 1 error" in printed


def test_no_launcher_around_the_tests_reaches_into_them(tmp_path: Path) -> None:
    tests = f"import os\n\ndef test_clean():\n    assert not set({_FOREIGN!r}) & set(os.environ)\n"
    assert "1 passed" in _run(tmp_path, tests, **dict.fromkeys(_FOREIGN, "1"))
