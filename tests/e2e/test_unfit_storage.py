"""A store that cannot keep two launchers apart is refused however the training is started, before it trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from relight.configs.protocol import ExitCode
from relight.tests.servers import environment, rclone

pytestmark = pytest.mark.needs("rclone")

SCRIPT: Final = """
import sys
import relight
from torch import nn

settings = relight.CheckpointSettings(single_writer="vouched" in sys.argv)
checkpointer = relight.Checkpointer(sys.argv[1], model=nn.Linear(1, 1), settings=settings)
checkpointer.restore()
checkpointer.step()
checkpointer.finish()
"""
ONE: Final = ("--nproc-per-node", "1")
TORCHRUN: Final = (sys.executable, "-m", "torch.distributed.run", *ONE)
RELIGHT: Final = (sys.executable, "-m", "relight", "run", *ONE)
REFUSED: Final = "overwrites what it was asked to create (it ignores If-None-Match)"


def run(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    return done.returncode, done.stderr


def test_it_is_refused_under_torchrun_and_under_relight_and_taken_when_vouched_for(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with rclone(tmp_path / "server") as server, environment(server.environment):
        for launcher, code in ((TORCHRUN, 1), (RELIGHT, ExitCode.BAD_CONFIG)):
            returncode, said = run(*launcher, str(script), "s3://bucket/run")
            assert returncode == code, said
            assert REFUSED in said, said
            assert "CheckpointSettings(single_writer=True)" in said
        assert not list((tmp_path / "server/data/bucket").glob("run/*")), "something was left"
        returncode, said = run(*TORCHRUN, str(script), "s3://bucket/run", "vouched")
        assert returncode == 0, said
        assert sorted(path.name for path in (tmp_path / "server/data/bucket/run").iterdir()) == [
            "checkpoints",
            "generations",
            "run.json",
        ]
