"""Saving and loading by one process, without ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
from torch.distributed.checkpoint.state_dict_saver import save

import relight
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.storage.whole import Whole


def put(run: Path, state: dict[str, Any], step: int | None = 1, **options: Any) -> None:
    writer = relight.dcp.Writer(str(run), **options)
    save(state, checkpoint_id=None if step is None else f"step-{step}", storage_writer=writer)


def everything(target: str) -> dict[str, Any]:
    """The state dict as it can be rebuilt from the checkpoint alone."""
    found: dict[str, Any] = {}
    _load_state_dict(found, relight.dcp.Reader(target), no_dist=True, planner=_EmptyStateDictLoadPlanner())
    return found


def steps(run: Path) -> list[int]:
    return [checkpoint.step for checkpoint in Catalog(open_backend(str(run))).committed()]


def whole(run: Path) -> Whole:
    backend = open_backend(str(run))
    return Whole(backend, Catalog(backend).find().manifest)


def refusal(act: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(CheckpointException) as caught:
        act(*arguments, **named)
    return str(caught.value)
