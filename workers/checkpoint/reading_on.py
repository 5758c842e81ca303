"""What a position in a plain DataLoader depends on, and how far it is in a world of another size: pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

Facts = Mapping[str, Any]


def samplers_of(sampler: Any) -> Iterator[Any]:
    """A sampler and those that it takes its samples from, outermost first."""
    seen: set[int] = set()
    while sampler is not None and id(sampler) not in seen:
        seen.add(id(sampler))
        yield sampler
        attributes = getattr(sampler, "__dict__", {})
        sampler = attributes.get("batch_sampler") or attributes.get("sampler")


def generators_of(loader: DataLoader[Any], sampler: Any) -> list[torch.Generator]:
    """Those of their own, in an order that is the same in every life of the script."""
    holders = [loader, *samplers_of(sampler)]
    found = [value for each in holders for _, value in sorted(_attributes(each)) if isinstance(value, torch.Generator)]
    return list({id(generator): generator for generator in found}.values())


def facts_of(loader: DataLoader[Any], sampler: Any) -> Facts:
    """What makes a number of batches mean something else."""
    dealt = next((each for each in samplers_of(sampler) if isinstance(each, DistributedSampler)), None)
    facts = {
        "samples": _length(loader.dataset),
        "batches": _length(sampler),
        "batch_size": loader.batch_size,
        "sampler": type(dealt or loader.sampler).__name__,
        "dealt": dealt is not None,
    }
    if dealt is not None:
        facts.update(shuffle=dealt.shuffle, seed=dealt.seed, drop_last=dealt.drop_last)
    return facts


def batches_read(saved: Sequence[Mapping[str, Any]], facts: Facts, world_size: int) -> tuple[int, list[str]]:
    """Batches of the epoch that each rank of this world has behind it, and why that is not to be said.

    Dealing deals a prefix of the epoch: what so many batches of all ranks took is so many batches of other ranks, where
    it comes out even. `saved` are the states of the ranks that wrote, by rank; `facts` are this rank's.
    """
    old, finished = saved[0]["facts"], saved[0]["finished"]
    ignored = {"batches"} if len(saved) != world_size else set()
    problems = [
        f"{name} is {old.get(name)} in the checkpoint, {value} here"
        for name, value in facts.items()
        if old.get(name) != value and name not in ignored
    ]
    if problems or len(saved) == world_size:
        return finished, problems
    return _dealt_anew(saved, facts, world_size)


def _dealt_anew(saved: Sequence[Mapping[str, Any]], facts: Facts, world_size: int) -> tuple[int, list[str]]:
    old, finished = saved[0]["facts"], saved[0]["finished"]
    worlds = f"saved by {len(saved)} ranks, here are {world_size}"
    way_out = (
        f"Go on with {len(saved)} ranks; or, in a script that is to change its world, give the DataLoader a "
        "relight.GlobalBatchSampler as batch_sampler"
    )
    if not facts["dealt"] or any(each["finished"] != finished for each in saved):
        return 0, [f"a position in a DataLoader without DistributedSampler was {worlds}. {way_out}"]
    if finished == old["batches"]:
        return facts["batches"], []
    if finished * len(saved) % world_size:
        return 0, [f"{finished} batches of each rank were {worlds}, which does not come out even. {way_out}"]
    return finished * len(saved) // world_size, []


def _length(sized: Any) -> int | None:
    return len(sized) if hasattr(sized, "__len__") else None


def _attributes(holder: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in getattr(holder, "__dict__", {}).items() if isinstance(name, str)]
