"""How many workers there will probably be, before torch can be asked: what the zygote's OpenMP is set up for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..configs.schema import Config
from .commandline import Command

_DEVICES = Path("/dev")


def likely_processes(command: Command, config: Config | None, environment: Mapping[str, str]) -> int:
    """A guess that costs nothing. When it is wrong the zygote is started again, which costs its head start."""
    words = list(command.flags)
    given = environment.get("PET_NPROC_PER_NODE", "1" if config is None else str(config.launch.nproc_per_node))
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag.startswith("--nproc"):
            given = value if equals else words[place + 1]
    if given.isdecimal():
        return int(given)
    gpus = _visible_gpus(environment)
    if gpus or given == "gpu":
        return gpus
    return 2 if config is not None and given == "auto" else os.cpu_count() or 1


def _visible_gpus(environment: Mapping[str, str]) -> int:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip()])
    return len(list(_DEVICES.glob("nvidia[0-9]*")))
