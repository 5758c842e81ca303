"""The launcher's own directory, in the presence of other launchers, living and dead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from relight.orchestrator.scratch import SHARED_MEMORY, scratch_directory


def test_it_is_private_in_memory_and_gone_at_the_end() -> None:
    with scratch_directory() as path:
        assert path.parent == SHARED_MEMORY
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "attempt-1").mkdir()
    assert not path.exists()


def test_a_living_launchers_directory_is_left_alone(tmp_path: Path) -> None:
    with scratch_directory(tmp_path) as mine, scratch_directory(tmp_path) as other:
        assert mine.exists()
        assert other != mine


def test_a_dead_launchers_directory_is_removed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from relight.orchestrator.scratch import scratch_directory\n"
        "with scratch_directory(Path(sys.argv[1])) as path:\n"
        "    (path / 'heartbeat').touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)
    (stale,) = tmp_path.iterdir()
    assert (stale / "heartbeat").exists()
    with scratch_directory(tmp_path):
        assert not stale.exists()


def test_what_is_not_a_launchers_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "relight-arena"
    theirs.mkdir()
    (tmp_path / "relight-launcher-file").touch()
    with scratch_directory(tmp_path):
        pass
    assert theirs.exists()
    assert os.listdir(tmp_path)  # noqa: PTH208  # Names are enough.
