"""An export's memory does not grow with the model: one tensor at a time, or less."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import torch

from relight.tests.workers.exchange.exporting import modules
from relight.tests.workers.exchange.exporting.saving import save

_EXPORTS = """
import re, shutil, sys
from pathlib import Path
from relight.workers.exchange.exporting.export import export
from relight.workers.exchange.exporting.formats import Wishes

def memory(what):
    return int(re.search(rf"{what}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10

def write(size, form):
    wishes = Wishes(model=f"{sys.argv[2]}:{size}" if form == "torch" else None)
    return export(folder / size, folder / f"{size}-{form}", format=form, wishes=wishes)

folder = Path(sys.argv[1])
for form in ("torch", "state-dict", "checkpoint", "safetensors", "dcp"):
    write("shallow", form)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
    done = write("deep", form)
    print(form, memory("VmHWM") - before, done.bytes >> 20)
"""


def test_the_peak_of_an_export_is_a_few_tensors(tmp_path: Path) -> None:
    for model in (modules.shallow(), modules.deep()):
        optimizer = torch.optim.Adam(model.parameters())
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        save(tmp_path / ("deep" if len(model) > 1 else "shallow"), model=model, optimizer=optimizer)
    command = [sys.executable, "-c", _EXPORTS, str(tmp_path), modules.__name__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    shutil.rmtree(tmp_path)
    assert done.returncode == 0, done.stderr
    grown = {line.split()[0]: [int(number) for number in line.split()[1:]] for line in done.stdout.splitlines()}
    print(grown)
    assert grown.keys() == {"torch", "state-dict", "checkpoint", "safetensors", "dcp"}
    for form, (peak_mib, size_mib) in grown.items():
        assert size_mib >= (192 if form in {"checkpoint", "dcp"} else 64), form
        assert peak_mib < 56, form
