"""A user's own script with all that a resume could get wrong; it dies where its folder's plan says.

    relight run --nproc-per-node 2 -- mortal_script.py FOLDER

Random augmentation in a loader worker, dropout and BatchNorm under DDP, float16 with a GradScaler whose scale grows
until gradients overflow, a schedule, and a moving average of the weights. All it knows of Relight is `import relight`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

import relight
from relight.tests.e2e.dying import Mortality

FOLDER: Final = Path(sys.argv[1])
SAMPLES: Final = 158  # With a batch of 16 the last batches of an epoch are uneven.
EPOCHS: Final = 6
WIDTH: Final = 512


class Points(Dataset[tuple[Tensor, Tensor]]):
    """Augmented by all three generators."""

    def __init__(self) -> None:
        self.points = torch.randn(SAMPLES, 32, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        point = self.points[index]
        target = point.square().sum().sqrt()
        return point + 0.1 * torch.randn(32) + random.uniform(-0.1, 0.1) + float(np.random.normal(0, 0.1)), target  # noqa: NPY002


def digest_of(state: Any) -> str:
    """Of every bit in it."""
    digest = hashlib.sha256()

    def walk(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, Mapping):
            for key in sorted(value, key=str):
                digest.update(repr(key).encode())
                walk(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                walk(item)
        else:
            digest.update(repr(value).encode())

    walk(state)
    return digest.hexdigest()


device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
if device.type == "cuda":
    torch.cuda.set_device(device)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
rank, world_size = dist.get_rank(), dist.get_world_size()
torch.use_deterministic_algorithms(True)
torch.manual_seed(0)
module = nn.Sequential(
    nn.Linear(32, WIDTH),
    nn.BatchNorm1d(WIDTH),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(WIDTH, WIDTH),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(WIDTH, 1),
).to(device)
model = DistributedDataParallel(module)
average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.95))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=7, T_mult=2)
scaler = torch.amp.GradScaler(device.type, init_scale=2.0**12, growth_interval=3)
sampler = relight.GlobalBatchSampler(SAMPLES, batch_size=16, rank=rank, world_size=world_size, seed=2)
loader = DataLoader(relight.Replayable(Points(), seed=3), batch_sampler=sampler, num_workers=1, persistent_workers=True)
for seed in (random.seed, np.random.seed, torch.manual_seed):
    seed(4 + rank)

checkpoint = relight.Checkpointer(
    str(FOLDER / "run"),
    model=model,
    optimizer=optimizer,
    scheduler=scheduler,
    scaler=scaler,
    loader=loader,
    extra={"average": average},
    settings=relight.CheckpointSettings(every=5, memory_every=2, when_busy="wait"),
)
mortality = Mortality(FOLDER, rank)
progress = checkpoint.restore()
with (FOLDER / f"trace-{rank}.jsonl").open("a", encoding="utf-8") as trace:
    for _ in progress.epochs(EPOCHS):
        for batch in loader:
            points, target = (each.to(device) for each in batch)
            mortality.begin(progress.step + 1)
            with mortality.at("step"):
                with torch.autocast(device.type, torch.float16):
                    loss = functional.mse_loss(model(points).squeeze(1).float() * (1 + 0.01 * random.random()), target)
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scale = scaler.get_scale()
                scaler.step(optimizer)
                scaler.update()
                scheduler.step()
                average.update_parameters(module)
            with mortality.at("boundary"):
                stopped = checkpoint.step(loss=loss)
            trace.write(json.dumps({"step": progress.step, "loss": loss.item(), "scale": scale}) + "\n")
            trace.flush()
            if stopped:
                raise SystemExit(checkpoint.exit_code)
parts: dict[str, Any] = {
    "model": module,
    "average": average,
    "optimizer": optimizer,
    "schedule": scheduler,
    "scaler": scaler,
}
final = {name: digest_of(part.state_dict()) for name, part in parts.items()}
final["next draws"] = repr((random.random(), np.random.random(), torch.rand(()).item()))  # noqa: NPY002
(FOLDER / f"final-{rank}.json").write_text(json.dumps(final))
mortality.close()
dist.destroy_process_group()
