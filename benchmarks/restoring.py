"""On fresh ranks: bring a saved state back, and measure that."""

from __future__ import annotations

import os
import time
from typing import Any, Literal

import torch
import torch.distributed as dist

from . import stores
from .peers.choosing import CONTENDERS
from .peers.contender import Place
from .processes import bytes_read, cpu_seconds
from .states import Shape, build

Cache = Literal["cold", "warm"]


def restore(  # A scene: see ranks.play.
    *, shape: Shape, total_bytes: int, name: str, url: str, number: int, cache: Cache
) -> dict[str, Any]:
    """`cache`: whether the files are in the page cache at the start. Times in seconds, the slowest rank's."""
    live = build(shape, total_bytes, seed=None)
    contender = CONTENDERS[name](live, Place(url))
    if contender.rank == 0:
        (stores.make_cold if cache == "cold" else stores.make_warm)(url)
    dist.barrier()
    cpu_before = cpu_seconds(os.getppid()) if contender.rank == 0 else 0.0
    read_before = bytes_read()
    dist.barrier()
    began = time.perf_counter()
    contender.load(number)
    seconds = torch.tensor(time.perf_counter() - began, dtype=torch.float64)
    dist.all_reduce(seconds, op=dist.ReduceOp.MAX)
    read = torch.tensor(bytes_read() - read_before)
    dist.all_reduce(read)
    cpu_s = cpu_seconds(os.getppid()) - cpu_before if contender.rank == 0 else 0.0
    return {"seconds": seconds.item(), "cpu_s": cpu_s, "bytes_read": read.item(), "fingerprint": live.fingerprint()}
