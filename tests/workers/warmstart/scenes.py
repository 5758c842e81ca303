"""What ranks do in test_ranks.py: the same weights into models that are wrapped in every way, by real ranks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fsspec
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from relight.storage.backends.open import open_backend
from relight.storage.boxes import Box
from relight.storage.catalog import Catalog
from relight.storage.reading import ShardReader
from relight.tests.workers.warmstart.nets import Net, digest, net, write_run
from relight.workers.checkpoint.collective import Circle
from relight.workers.checkpoint.names import plain
from relight.workers.checkpoint.state import model_state
from relight.workers.checkpoint.warmstart.loading import init_from, load_initial
from relight.workers.checkpoint.warmstart.settings import InitFrom
from relight.workers.checkpoint.warmstart.torch_source import TorchSource
from relight.workers.errors import WorkerError
from relight.workers.parallel import World

WIDTH = 26
"""No multiple of four: shards of different sizes, and an empty one for the head."""


def _ddp(model: Net, _: World) -> nn.Module:
    return DistributedDataParallel(model)


def _checkpointed(model: Net, _: World) -> nn.Module:
    """As activation checkpointing wraps modules: under other names, with hooks for state dicts."""
    model.body = checkpoint_wrapper(model.body)  # type: ignore[assignment]
    return DistributedDataParallel(model)


def _fsdp(model: Net, world: World) -> nn.Module:
    fully_shard(model.body)
    fully_shard(model)
    return model


def _hsdp(model: Net, world: World) -> nn.Module:
    mesh = init_device_mesh("cpu", (2, world.world_size // 2), mesh_dim_names=("replicate", "shard"))
    fully_shard(model, mesh=mesh)
    return model


def _tensor(model: Net, mesh: Any) -> None:
    plan = {"body.0": ColwiseParallel(), "body.2": RowwiseParallel(), "head": ColwiseParallel()}
    model.body[1] = nn.Identity()
    parallelize_module(model, mesh, plan)


def _tp(model: Net, world: World) -> nn.Module:
    _tensor(model, init_device_mesh("cpu", (world.world_size,)))
    return model


def _tp_fsdp(model: Net, world: World) -> nn.Module:
    mesh = init_device_mesh("cpu", (world.world_size // 2, 2), mesh_dim_names=("data", "tensor"))
    _tensor(model, mesh["tensor"])
    fully_shard(model, mesh=mesh["data"])
    return model


WRAPS: dict[str, Callable[[Net, World], nn.Module]] = {
    "ddp": _ddp,
    "checkpointed": _checkpointed,
    "fsdp": _fsdp,
    "hsdp": _hsdp,
    "tp": _tp,
    "tp+fsdp": _tp_fsdp,
}


def wrapped(world: World, directory: Path) -> dict[str, Any]:
    """For each wrap and source: the whole state's digest, and how many bytes this rank has read of the source."""
    sources = json.loads((directory / "sources.json").read_text())
    answer = {}
    for wrap, wrapping in WRAPS.items():
        model = wrapping(net(2, width=WIDTH), world)
        for kind, source in sources.items():
            settings = InitFrom(source, strict=wrap not in ("tp", "tp+fsdp"))
            with _counting() as read:
                initial = load_initial(model, settings, Circle(world.control))
            answer[f"{wrap}, {kind}"] = {
                "digest": digest(_whole(model)),
                "loaded": initial.loaded,
                "read": sum(read),
                "computes": wrap in ("tp", "tp+fsdp") or _computes(model),
                "trainable": all(it.grad is None and it.requires_grad for it in model.parameters()),
            }
            with torch.no_grad():
                for tensor in model.state_dict().values():
                    tensor.zero_()
    return answer


def _computes(model: nn.Module) -> bool:
    """Whether what is gathered for a forward is what was loaded."""
    values = torch.randn(3, 7)
    with torch.no_grad():
        return torch.allclose(model.eval()(values), net(1, width=WIDTH).eval()(values), atol=1e-5)


def _whole(model: nn.Module) -> dict[str, Any]:
    state = model_state(plain(model))
    return {name: it.full_tensor() if isinstance(it, DTensor) else it for name, it in state.items()}


@contextmanager
def _counting() -> Iterator[list[int]]:
    """The bytes of every tensor that is read from a torch file."""
    read: list[int] = []
    genuine = TorchSource.read

    def counting(source: TorchSource, name: str, box: Box) -> torch.Tensor:
        found = genuine(source, name, box)
        read.append(found.nbytes)
        return found

    with patch.object(TorchSource, "read", counting):
        yield read


def refused(world: World, directory: Path) -> dict[str, Any]:
    """What every rank hears when one of them cannot, and whether its model is as it was."""
    here = directory / f"of-rank-{world.rank}"
    here.mkdir()
    good = net(1, width=WIDTH).state_dict()
    (here / "only-one.pt").symlink_to(directory / ("a.pt" if world.rank == 0 else "nowhere.pt"))
    torch.save(good if world.rank == 0 else net(9, width=WIDTH).state_dict(), here / "differs.pt")
    torch.save(good if world.rank == 0 else {**good, "more": torch.ones(1)}, here / "has-more.pt")
    torch.save({**good, "head.weight": torch.ones(1, 1)}, here / "misfit.pt")
    answer: dict[str, Any] = {}
    for name in ("only-one", "differs", "has-more", "misfit"):
        model = _fsdp(net(2, width=WIDTH), world) if name == "only-one" else _ddp(net(2, width=WIDTH), world)
        before = digest(_whole(model))
        try:
            init_from(model, str(_own(here / f"{name}.pt", directory)))
        except WorkerError as error:
            answer[name] = [f"{type(error).__name__}: {error}", digest(_whole(model)) == before]
    return answer


def _own(path: Path, directory: Path) -> Path:
    """One name on all ranks, as of a file on every host's own disk, and another file on each."""
    link = directory / "everywhere" / path.name
    if dist.get_rank() == 0:
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"/proc/self/cwd/{path.name}")
    dist.barrier()
    os.chdir(path.parent)
    return link


def fetched(world: World, directory: Path) -> dict[str, Any]:
    """A remote file that rank 0 alone can reach: its neighbours read what it has fetched."""
    url = f"memory://{directory.name}/a.pt"
    if world.rank == 0:
        with fsspec.open(url, "wb") as file:
            file.write((directory / "a.pt").read_bytes())
    model = net(2, width=WIDTH)
    initial = load_initial(model, url, Circle(world.control))
    return {"digest": digest(model.state_dict()), "title": initial.title}


def saved(world: World, directory: Path) -> dict[str, Any]:
    """A run of two ranks, of which each has written some rows of the larger tensors."""
    model = net(1, width=300)
    url = write_run(DistributedDataParallel(model), directory / "run", control=world.control)
    backend = open_backend(url)
    manifest = Catalog(backend).find().manifest
    layouts = [ShardReader(backend, manifest, rank).layout() for rank in range(world.world_size)]
    pieces = [it.piece.name for layout in layouts for it in layout.placed if it.piece.name.startswith("model/")]
    return {"pieces": len(pieces), "tensors": len(set(pieces))}
