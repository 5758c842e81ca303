"""On the ranks: save the same state by turns, and measure each save. Also, alone, what memory a contender takes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
import torch.distributed as dist

from . import stores
from .peers.choosing import CONTENDERS, MEMCPY, OURS
from .peers.contender import Contender, Place
from .processes import cpu_seconds
from .ranks import pause
from .states import Shape, build

SEED: Final = 7
_COMPUTE_S: Final = 0.5
_CALM_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Save:
    """One save, over all ranks: the longest stall, the last to be done, everybody's CPU seconds. Times in seconds."""

    contender: str
    stall_s: float
    durable_s: float
    cpu_s: float


def saves_by_turns(
    *, shape: Shape, total_bytes: int, urls: dict[str, str], rounds: int
) -> dict[str, Any]:  # A scene: see ranks.play.
    """`rounds` rounds after one that is not counted; ours before each of the others, so that a trend hits both."""
    live = build(shape, total_bytes, seed=SEED)
    crew = {name: CONTENDERS[name](live, Place(url)) for name, url in urls.items() if CONTENDERS[name].saves}
    numbers = dict.fromkeys(crew, 0)
    samples = []
    for number in range(rounds + 1):
        for name in turns(list(crew)):
            numbers[name] += 1
            sample = _save(name, crew[name], numbers[name])
            if number:
                samples.append(asdict(sample))
    for contender in crew.values():
        contender.close()
    return {"samples": samples, "numbers": numbers, "bytes": live.size, "fingerprint": live.fingerprint()}


def turns(names: Sequence[str]) -> list[str]:
    """One round: the floors once and then ours before every other contender, and the memory copy twice."""
    others = [name for name in names if name not in (OURS, MEMCPY)]
    alternating = [turn for name in others for turn in (OURS, name)] or [OURS]
    return [MEMCPY, *alternating, MEMCPY]


def _save(name: str, contender: Contender, number: int) -> Save:
    contender.prepare(number)
    if contender.rank == 0:
        stores.settle(contender.place.url)
    dist.barrier()
    pause(_CALM_S)  # What the save before has left to do in the background (retention) is not this one's.
    cpu_before = cpu_seconds(os.getppid()) if contender.rank == 0 else 0.0
    dist.barrier()
    began = time.perf_counter()
    contender.save(number)
    stall_s = time.perf_counter() - began
    if contender.overlaps:
        compute(_COMPUTE_S)
        waiting = time.perf_counter()
        contender.next_step()
        stall_s += time.perf_counter() - waiting
    contender.settle(number)
    durable_s = time.perf_counter() - began
    stall_s, durable_s = _longest(stall_s, durable_s)
    cpu_s = cpu_seconds(os.getppid()) - cpu_before if contender.rank == 0 else 0.0
    if number > 1:
        contender.drop(number - 1)
    return Save(name, stall_s, durable_s, cpu_s)


def compute(seconds: float) -> None:
    """As a forward and backward pass: arithmetic on other memory than the state's."""
    left = torch.rand(256, 256)
    ends_at = time.perf_counter() + seconds
    while time.perf_counter() < ends_at:
        torch.mm(left, left)


def _longest(*seconds: float) -> Iterator[float]:
    """Each the greatest over all ranks. A collective, and so also a barrier."""
    values = torch.tensor(seconds, dtype=torch.float64)
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return iter(values.tolist())


def saves_alone(*, shape: Shape, total_bytes: int, name: str, url: str, saves: int = 3) -> dict[str, Any]:
    """One contender from its opening on. Returns when it began and ended (monotonic clock) and the bytes it stored."""
    live = build(shape, total_bytes, seed=SEED)
    dist.barrier()
    pause(_CALM_S)
    begin = time.monotonic()
    contender = CONTENDERS[name](live, Place(url))
    for number in range(1, saves + 1):
        _save(name, contender, number)
    contender.prepare(saves + 1)  # What retention has still to take away is gone by then.
    dist.barrier()
    end = time.monotonic()
    stored = stores.size(contender.place.url) if contender.rank == 0 else 0
    contender.close()
    dist.barrier()
    if contender.rank == 0:
        stores.remove(contender.place.url)  # Here: an object store's client has threads, and the ranks are forked.
    return {"begin": begin, "end": end, "stored": stored}
