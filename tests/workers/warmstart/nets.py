"""A small model with what models have: nested modules, BatchNorm with its statistics, a head; and its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.signals import StopFlag


class Net(nn.Module):
    def __init__(self, classes: int = 5, width: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(7, width), nn.BatchNorm1d(width), nn.Linear(width, width, bias=False))
        self.scale = nn.Parameter(torch.ones(1))
        self.head = nn.Linear(width, classes)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(values) * self.scale)  # type: ignore[no-any-return]


def net(seed: int, **sizes: int) -> Net:
    """Another seed, other values in every tensor."""
    torch.manual_seed(seed)
    made = Net(**sizes)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter))
        tensor(made, "body.1.running_mean").normal_()
        tensor(made, "body.1.num_batches_tracked").fill_(1 + seed)
    return made


def tensor(model: nn.Module, name: str) -> torch.Tensor:
    """The live one, by its name in the state dict."""
    found: torch.Tensor = model.state_dict()[name]
    return found


def digest(state: dict[str, Any]) -> str:
    """Over names, dtypes, shapes and bytes of a state dict's tensors."""
    told = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().contiguous()
        told.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        told.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return told.hexdigest()


def write_safetensors(model: nn.Module, path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


def write_torch(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def write_index(model: nn.Module, folder: Path) -> Path:
    """As Hugging Face's libraries cut a large model into files."""
    folder.mkdir()
    state = model.state_dict()
    first = dict(list(state.items())[:4])
    rest = {name: value for name, value in state.items() if name not in first}
    files = {"model-1-of-2.safetensors": first, "model-2-of-2.safetensors": rest}
    for name, part in files.items():
        save_file(part, folder / name)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {tensor: name for name, part in files.items() for tensor in part}}))
    return path


def write_run(model: nn.Module, url: Path | str, *, steps: int = 1, **named: Any) -> str:
    """A run of Relight's that has committed `model`, at step `steps`."""
    settings = CheckpointSettings(every=10**6, identity={"name": "source"})
    checkpointer = Checkpointer(str(url), model=model, settings=settings, stop=StopFlag(), **named)
    checkpointer.restore()
    for _ in range(steps):
        checkpointer.step(loss=1.0)
    checkpointer.finish()
    return str(url)
