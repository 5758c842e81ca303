"""The random number generators of one rank: Python's, NumPy's, torch's, and that of its GPU."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def capture(*, devices: bool = True) -> dict[str, Any]:
    """The state of all generators, as a tree of numbers and tensors; without `devices`, those of the process alone."""
    version, internal, gauss_next = random.getstate()
    algorithm, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002  (the global one)
    state: dict[str, Any] = {
        "python": {"version": version, "internal": np.array(internal, dtype=np.int64), "gauss_next": gauss_next},
        "numpy": {"algorithm": algorithm, "keys": keys, "rest": [int(position), int(has_gauss), float(cached)]},
        "torch": torch.get_rng_state(),
    }
    if devices and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore(state: dict[str, Any]) -> None:
    """Put all generators where `capture` found them."""
    python = state["python"]
    random.setstate((python["version"], tuple(python["internal"].tolist()), python["gauss_next"]))
    numpy = state["numpy"]
    np.random.set_state((numpy["algorithm"], numpy["keys"], *numpy["rest"]))  # noqa: NPY002  (the global one)
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
