"""Which ranks belong together: a pure function of the config and of the world as it is at this start."""

from __future__ import annotations

from dataclasses import replace

from ...configs.parallel import ParallelConfig
from ..errors import BadWorld
from ..parallel import World


def place(world: World, parallel: ParallelConfig, host_size: int) -> World:
    """`world`, with the sizes of its groups. `host_size`: ranks on a host.

    They are worked out anew at each start, so a run may go on in a world of another size.

    Raises:
        BadWorld: a size does not divide the world.
    """
    shard, tensor = 1, 1
    match parallel.mode:
        case "fsdp":
            shard = world.world_size
        case "hsdp":
            shard = parallel.shard or host_size
            _check_divides("shard", parallel.shard, shard, world.world_size)
        case "tp+fsdp":
            tensor = parallel.tensor or host_size
            _check_divides("tensor", parallel.tensor, tensor, world.world_size)
            shard = world.world_size // tensor
    return replace(world, shard=shard, tensor=tensor)


def _check_divides(name: str, given: int | None, size: int, world_size: int) -> None:
    if world_size % size == 0:
        return
    fitting = ", ".join(str(number) for number in range(1, world_size + 1) if world_size % number == 0)
    what = f"parallel.{name}={size}" if given else f"parallel.{name}=null (the {size} ranks of a host)"
    raise BadWorld(
        f"{what} does not divide {world_size} ranks into equal groups. "
        f"Start a multiple of {size} ranks, or set parallel.{name} to one of {fitting}"
    )
