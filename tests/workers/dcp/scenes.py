"""What the ranks of these tests do. Played by real ranks (tests/workers/ranks.py)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType, async_save, save
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import relight
from relight.storage.backends.open import open_backend
from relight.storage.backends.patience import Patience
from relight.storage.backends.s3 import S3Backend
from relight.storage.backends.s3_place import S3Place
from relight.storage.catalog import Catalog
from relight.workers.dcp import lineage
from relight.workers.parallel import World

STEP = 3
ROWS = 1500
"""Of 1,000 floats: more than one block."""


def trained(world: World, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A small FSDP2 model after two steps of AdamW; 7 rows do not divide evenly."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 7), nn.LayerNorm(7), nn.Linear(7, 3))
    fully_shard(model[0])
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01 * seed)
    for _ in range(2):
        model(torch.ones(2, 6)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer)
    return {
        "model": weights,
        "optimizer": moments,
        "train": {"step": seed, "names": ("a", "b"), "tokens": torch.tensor(seed)},
    }


def whole(state: Any) -> Any:
    """Every tensor as a digest of all of it: the same on all ranks, and at every number of them."""
    if isinstance(state, DTensor):
        state = state.full_tensor()
    if isinstance(state, torch.Tensor):
        return [list(state.shape), hashlib.sha256(state.detach().contiguous().numpy().tobytes()).hexdigest()]
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    return [whole(item) for item in state] if isinstance(state, (list, tuple)) else state


def saving(world: World, directory: Path) -> Any:
    model, optimizer = trained(world, seed=1)
    state = state_of(model, optimizer, seed=1) | {"loader": {f"rank{world.rank}": bytes([world.rank])}}
    save(state, checkpoint_id=f"step-{STEP}", storage_writer=relight.dcp.Writer(str(directory / "run")))
    state.pop("loader")
    return whole(state)


def loading(world: World, directory: Path) -> Any:
    """Into a model of other values; what comes back is what the live objects have in the end."""
    model, optimizer = trained(world, seed=2)
    state = state_of(model, optimizer, seed=2)
    reader = relight.dcp.Reader(str(directory / "run"))
    load(state, storage_reader=reader)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    assert reader.step == STEP
    return whole(state_of(model, optimizer, seed=2) | {"train": state["train"]})


def refused_load(world: World, directory: Path) -> str:
    """What every rank is told, and whether the live tensors are as they were."""
    model, optimizer = trained(world, seed=2)
    state = state_of(model, optimizer, seed=2)
    before = whole(state)
    try:
        load(state, storage_reader=relight.dcp.Reader(f"{directory / 'run'}@{STEP}"))
    except CheckpointException as error:
        return f"{whole(state) == before} {error}"
    return "loaded"


def passing_over(world: World, directory: Path) -> Any:
    """Load the newest: its step, and the numbers that say which state it is. Rank 0 has no need of the tensor."""
    reader = relight.dcp.Reader(str(directory / "run"))
    state: dict[str, Any] = {"number": -1} | ({"rows": torch.zeros(ROWS, 1000)} if world.rank else {})
    load(state, storage_reader=reader)
    return [reader.step, state["number"], *(state["rows"].unique().tolist() if world.rank else [])]


def two_steps(world: World, directory: Path) -> None:
    writer = relight.dcp.Writer(str(directory / "run"))
    for step in (1, 2):
        save(
            {"rows": torch.full((ROWS, 1000), float(step)), "number": step},
            checkpoint_id=f"step-{step}",
            storage_writer=writer,
        )


class FailsToShow:
    """Cannot be spelled without pickle."""


def failing(world: World, directory: Path) -> list[Any]:
    """One rank cannot save what it has, twice; then it can. What was said, and how many attempts are there then."""
    url = str(directory / "run")
    writer = relight.dcp.Writer(url)
    found: list[Any] = []
    for value in (FailsToShow(), FailsToShow(), 2):
        state = {"rows": torch.ones(4), f"value{world.rank}": value if world.rank == 1 else 1}
        try:
            save(state, checkpoint_id="step-7", storage_writer=writer)
        except CheckpointException as error:
            found.append(str(error))
        found.append(len(Catalog(open_backend(url)).attempts()))
        dist.barrier()
    return found


def asynchronous(world: World, directory: Path) -> Any:
    """Saved from a thread and from a process, and the same step once more by this process itself."""
    url = str(directory / "run")
    group = cast("dist.ProcessGroup", dist.new_group(backend="gloo"))
    writer = relight.dcp.Writer(url)
    kinds = {"THREAD": 1, "PROCESS": 2}
    for kind, step in kinds.items():
        rows = torch.full((40,), float(step))
        state: dict[str, Any] = {"model": {"rows": rows}, "number": step}
        begun: Any = async_save(
            state,
            checkpoint_id=f"step-{step}",
            storage_writer=writer,
            process_group=group,
            async_checkpointer_type=AsyncCheckpointerType[kind],
        )
        rows.fill_(-1)  # The copy is DCP's stager's.
        getattr(begun, "upload_completion", begun).result()
    save({"model": {"rows": torch.full((40,), 20.0)}, "number": 20}, checkpoint_id="step-2", storage_writer=writer)
    found = []
    for step in (1, 2):
        state = {"model": {"rows": torch.zeros(40)}, "number": 0}
        load(state, checkpoint_id=f"step-{step}", storage_reader=relight.dcp.Reader(url))
        found.append([float(state["model"]["rows"].mean()), state["number"]])
    return found


def on_s3(world: World, directory: Path) -> Any:
    """Step 2 meets faults in the proxy: what was said of it, what is loaded then, and after step 3."""
    url = (directory / "url").read_text()
    impatient = Patience(deadline_s=3, retries=2, retries_of_a_stranger=2, given_up_for_s=0, longest_wait_s=0.2)
    said: list[Any] = []
    with mock.patch.object(lineage, "open_backend", side_effect=lambda _: S3Backend(S3Place.parse(url), impatient)):
        writer = relight.dcp.Writer(url)
        for step in (1, 2, 3):
            try:
                rows = torch.full((40, 1000), float(step)) + world.rank
                save({f"rows{world.rank}": rows}, checkpoint_id=f"step-{step}", storage_writer=writer)
            except CheckpointException as error:
                said.append(str(error))
            state = {"rows0": torch.zeros(40, 1000), "rows1": torch.zeros(40, 1000)}
            load(state, storage_reader=relight.dcp.Reader(url))
            said.append([float(rows.mean()) for rows in state.values()])
    return said
