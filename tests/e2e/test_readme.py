"""What the README shows is what happens: its script runs as it stands, is stopped, and goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relight.tests.waiting import wait_until

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script of the README, in an empty folder."""
    (block,) = re.findall(r"```python whole\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    path = tmp_path / "train.py"
    path.write_text(block, encoding="utf-8")
    return path


def test_the_first_command_comes_within_20_lines() -> None:
    assert "./launch.sh" in "\n".join(README.read_text(encoding="utf-8").splitlines()[:20])


def test_no_more_than_five_lines_make_a_script_resumable(script: Path) -> None:
    marked = re.findall(r"# (\d)(?:$|:| )", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert marked == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("launcher", [["relight", "run"], ["torchrun", "--standalone"]])
def test_the_script_runs_to_its_end_and_goes_on_after_a_stop(script: Path, launcher: list[str]) -> None:
    command = [*launcher, "--nproc-per-node", "2", script.name]
    output = script.parent / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=script.parent, stdout=file, stderr=file, start_new_session=True)
    try:
        first = wait_until(lambda: checkpoint_or_none(script.parent, process), deadline_s=120, what="the end")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, output.read_text()
    listing = subprocess.run(
        [sys.executable, "-m", "relight", "ls", str(first)], capture_output=True, text=True, check=True
    )
    assert re.search(r"^ *192 +3 ", listing.stdout, flags=re.MULTILINE), listing.stdout
    again = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert "resumed from step 192 (epoch 3" in again.stderr


def checkpoint_or_none(folder: Path, process: subprocess.Popen[bytes]) -> Path | None:
    """Where the checkpoints are, once the script has ended."""
    return folder / "runs" / "mine" if process.poll() is not None else None
