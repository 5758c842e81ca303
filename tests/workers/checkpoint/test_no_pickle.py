"""Loading a checkpoint never runs code from it: neither a save nor a restore comes near pickle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_RUN = """
import pickle, sys
import torch, torch.serialization
from relight.tests.workers.checkpoint.jobs import Job

Job(sys.argv[1] + "-before").train()  # All that torch imports at first use.

def refuse(*_, **__):
    raise AssertionError("pickle was reached")

def audit(event, arguments):
    if event.startswith("pickle."):
        refuse()

sys.addaudithook(audit)
for module in (pickle, sys.modules["_pickle"]):
    for name in ("load", "loads", "dump", "dumps", "Pickler", "Unpickler"):
        setattr(module, name, refuse)
for name in ("load", "save"):
    setattr(torch, name, refuse)
    setattr(torch.serialization, name, refuse)
if sys.argv[2] == "break":
    torch.load("x")
Job(sys.argv[1]).train(until=6).checkpointer._session.saver.close()
again = Job(sys.argv[1])
again.train()
assert min(again.losses) == 5
print("whole")
"""


@pytest.mark.parametrize(("how", "whole"), [("as it is", True), ("break", False)])
def test_a_save_and_a_restore_reach_no_pickle(tmp_path: Path, how: str, whole: bool) -> None:  # noqa: FBT001
    command = [sys.executable, "-c", _RUN, str(tmp_path / "run"), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ("whole" in done.stdout) == whole, done.stderr
    assert ("pickle was reached" in done.stderr) != whole
