"""What was exported is read where Relight is not installed, by torch and safetensors alone."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import torch

from relight.tests.workers.checkpoint.jobs import Job
from relight.tests.workers.exchange.exporting import saving
from relight.workers.exchange.exporting.export import export
from relight.workers.exchange.exporting.formats import Wishes

_ELSEWHERE = """
import importlib.util, sys, warnings
sys.path.append(sys.argv[1])
assert importlib.util.find_spec("relight") is None
import torch, torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
warnings.simplefilter("ignore")

x = torch.ones(3, 4)
net = torch.nn.Sequential(
    torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
)
blank = net.state_dict()
states = {
    "torch": torch.load("torch", weights_only=False).state_dict(),
    "state-dict": torch.load("state-dict"),
    "checkpoint": torch.load("checkpoint")["model_state_dict"],
    "safetensors": load_file("safetensors"),
}
wanted = {"model": {name: torch.zeros_like(tensor) for name, tensor in blank.items()}}
dcp.load(wanted, checkpoint_id="dcp", no_dist=True)
states["dcp"] = wanted["model"]
for name, state in states.items():
    net.load_state_dict(state, strict=True)
    print(name, net.eval()(x).flatten().tolist())
print("torch", torch.load("torch", weights_only=False).eval()(x).flatten().tolist())
assert "relight" not in sys.modules
"""


def test_every_format_is_read_without_relight(tmp_path: Path) -> None:
    job = Job(tmp_path / "run").train()
    for form in ("torch", "state-dict", "checkpoint", "safetensors", "dcp"):
        wishes = Wishes(model=f"{saving.__name__}:job_net" if form == "torch" else None)
        export(job.checkpointer.url, tmp_path / form, format=form, wishes=wishes)
    # -S: the packages that pip has linked in, as this one may be, are not found; the folder of the others is added.
    command = [sys.executable, "-I", "-S", "-c", _ELSEWHERE, sysconfig.get_path("purelib")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    expected = job.model.eval()(torch.ones(3, 4)).flatten().tolist()
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    for line in lines:
        form, _, numbers = line.partition(" ")
        assert numbers == str(expected), form
