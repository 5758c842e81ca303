"""One seed for all generators of a process."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int, rank: int) -> None:
    """Seed Python, NumPy and torch (all devices), each rank with a stream of its own: dropout must differ."""
    words = np.random.SeedSequence([seed, rank]).generate_state(2, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]) & 0xFFFFFFFF)  # noqa: NPY002 -- user code draws from the global generator
    torch.manual_seed(int(words[1]) >> 1)
