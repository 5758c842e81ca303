"""One process alone, and what a rank is told whose environment is wrong. Real worlds: `test_ranks.py`."""

from __future__ import annotations

import os
import random
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from relight.workers.agreement import Agreement, Votes
from relight.workers.errors import BadWorld
from relight.workers.parallel import (
    World,
    choose_device,
    join,
    leave,
    make_deterministic,
    sync_buffers,
    to_device,
    unwrap,
    wrap,
)
from relight.workers.seeding import seed_everything

Pair = namedtuple("Pair", "left right")  # noqa: PYI024 -- a loader's batch may be one
CPU = torch.device("cpu")


def test_without_a_launcher_a_process_is_a_world_of_its_own() -> None:
    world = join({})
    assert (world.rank, world.local_rank, world.world_size, world.control) == (0, 0, 1, None)
    leave()


def test_alone_a_model_needs_no_wrapping() -> None:
    model = nn.BatchNorm1d(2)
    assert wrap(model, World()) is model
    assert unwrap(model) is model
    sync_buffers(model)


def test_an_incomplete_environment_is_refused_by_name() -> None:
    with pytest.raises(BadWorld) as caught:
        join({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": ""})
    assert str(caught.value) == (
        "RANK is set but MASTER_ADDR, MASTER_PORT is not: start with relight run or torchrun, or unset RANK"
    )


def test_a_gpu_for_each_process_or_the_cpu() -> None:
    assert choose_device(3, gpus=0) == CPU
    assert choose_device(3, gpus=4) == torch.device("cuda", 3)
    with pytest.raises(BadWorld) as caught:
        choose_device(2, gpus=2)
    assert str(caught.value) == (
        "LOCAL_RANK=2 has no GPU: this host shows 2. Start at most 2 processes per host, "
        "or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on the CPU"
    )


def test_alone_votes_are_read_back_as_they_were_cast() -> None:
    agreement = Agreement(None)
    assert agreement.read() is None
    agreement.start(Votes(stop=True, committed_step=3))
    assert agreement.read() == Votes(stop=True, committed_step=3)
    assert agreement.agree(Votes(busy=True)) == Votes(busy=True)


def test_a_round_of_votes_has_to_be_read_before_the_next() -> None:
    agreement = Agreement(None)
    agreement.start(Votes())
    with pytest.raises(RuntimeError) as caught:
        agreement.start(Votes())
    assert str(caught.value) == "the votes of the last round have not been read: call read() before start()"


def test_every_tensor_of_a_batch_goes_to_the_device() -> None:
    meta = torch.device("meta")
    batch: Any = {"a": [torch.ones(1)], "b": (torch.ones(1), "text"), "c": Pair(torch.ones(1), 3)}
    moved = to_device(batch, meta)
    assert moved["a"][0].device == moved["b"][0].device == moved["c"].left.device == meta
    assert (moved["b"][1], moved["c"].right, type(moved["c"])) == ("text", 3, Pair)


def draws() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002


def test_a_seed_fixes_all_three_generators_for_each_rank() -> None:
    seed_everything(4, rank=1)
    first = draws()
    seed_everything(4, rank=1)
    assert draws() == first
    seed_everything(4, rank=0)
    assert not set(draws()) & set(first)


def test_deterministic_kernels_without_the_cost_of_filling_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        make_deterministic()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic = False
