"""A tiny run that all pages' commands are tried on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import torch

CONFIG: Final = """
name: digits
task: tiny_job:Job
train: {epochs: 10, batch_size: 16}
checkpoint: {every: 10, keep_last: 1, pin: [50, 60, 100, 200, 400], when_busy: wait}
storage: {url: runs/digits}
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages talk of, small: a run with checkpoints of the steps that they name, others like it, and a file."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "my.yaml").write_text(CONFIG)
    shutil.copy(Path(__file__).parent / "tiny_job.py", folder)  # For whoever makes its model once more.
    command = [sys.executable, "-m", "relight", "run", "--nproc-per-node", "1", "my.yaml"]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=here, check=True, timeout=120)
    for name in ("a", "b"):
        shutil.copytree(folder / "runs/digits", folder / "runs" / name)
    model = torch.nn.Linear(4, 2)
    general = {
        "epoch": 3,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": torch.optim.AdamW(model.parameters()).state_dict(),
        "loss": 0.5,
    }
    torch.save(general, folder / "general.pt")
    return folder
