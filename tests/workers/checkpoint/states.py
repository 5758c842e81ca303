"""A trained state, the shards that any number of ranks would make of it, and what tells two states apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from relight.storage.backends.local import LocalBackend
from relight.storage.checksum import hash_blocks
from relight.storage.layout import AttemptId
from relight.storage.persist import persist
from relight.storage.receipts import Receipt
from relight.storage.shared_memory import SharedMemory
from relight.storage.staged import Seal
from relight.tests.storage.checkpoints import attempt_id, job
from relight.workers.checkpoint.remembering import Remembered
from relight.workers.checkpoint.staging import Planner, source_of
from relight.workers.checkpoint.state import Parts, capture
from relight.workers.checkpoint.windows import tensor_at


def parts(seed: int, *, steps: int) -> Parts:
    """Large enough that its tensors are cut. Without steps the optimizer has no state yet."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(300, 400), nn.BatchNorm1d(400), nn.Linear(400, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(steps):
        # Element by element: the same bits with any number of threads.
        for buffer in model.buffers():
            buffer.copy_(torch.rand(buffer.shape) * 100)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape)
        optimizer.step()
        scheduler.step()
    return Parts(model=model, optimizer=optimizer, shared={"scheduler": scheduler})


def shard(of: Parts, step: int, rank: int, world_size: int) -> memoryview:
    """What `rank` would stage. Its generators are where a seed of its own put them."""
    torch.manual_seed(1000 + rank)
    return staged(of, {"epoch": 0, "step": step, "samples": 0, "loss": None, "metrics": {}}, rank, world_size)


def staged(of: Parts, facts: Mapping[str, Any], rank: int, world_size: int) -> memoryview:
    captured = capture(of, facts, rank)
    layout = Planner(rank, world_size).layout(captured)
    data = memoryview(bytearray(layout.size))
    data[: len(layout.header)] = layout.header
    sources = captured.tensors | captured.own_tensors
    for placed in layout.placed:
        tensor_at(data, placed.start, placed.piece).copy_(source_of(sources[placed.piece.name], placed.piece))
    return data


def first_draw(rank: int) -> float:
    """What a rank draws first when its generators are its own again."""
    return float(torch.rand((), generator=torch.Generator().manual_seed(1000 + rank)))


def store(url: Path, of: Parts, step: int, world_size: int) -> None:
    """Committed, as `world_size` ranks would have left it."""
    for rank in reversed(range(world_size)):
        outcome = persist(LocalBackend(url), job(attempt_id(step), rank, world_size), shard(of, step, rank, world_size))
        assert not outcome.failed, outcome.failed


def remembered(of: Parts, step: int, rank: int, world_size: int, **changes: Any) -> Remembered:
    """A sealed arena, as a worker that died has left it."""
    data = shard(of, step, rank, world_size)
    memory = SharedMemory.create(len(data) + 4096)
    memory.view[: len(data)] = data
    receipt = Receipt(rank=rank, size=len(data), blocks=hash_blocks(data))
    attempt: AttemptId = changes.pop("id", attempt_id(step))
    return Remembered(Seal.of(job(attempt, rank, world_size, **changes), receipt), memory)


def fingerprint(of: Parts) -> str:
    """Of every byte of the model, the optimizer and the scheduler."""
    hasher = hashlib.sha256()
    for name, value in sorted(_flat(of), key=lambda item: item[0]):
        content = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + content)
    hasher.update(
        repr([of.optimizers["optimizer"].param_groups[0]["lr"], of.shared["scheduler"].state_dict()]).encode()
    )
    return hasher.hexdigest()


def _flat(of: Parts) -> Iterator[tuple[str, torch.Tensor]]:
    yield from of.models[""].state_dict().items()
    for number, state in of.optimizers["optimizer"].state_dict()["state"].items():
        yield from ((f"{number} {key}", value) for key, value in state.items())
