"""Writes what a worker is to a file: how it was started, and whether it is what `python script.py` would be."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset[tuple[int, int]]):
    """Lives in `__main__`: a spawned loader worker has to find it there."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index * index, os.getppid()


if __name__ == "__main__":
    threads = threading.active_count()  # Before the loader: its queue's thread may outlast it by a moment.
    method = "spawn" if "--spawn" in sys.argv else "fork"
    loaded = [row for batch in DataLoader(Squares(), num_workers=1, multiprocessing_context=method) for row in batch]
    facts = {
        "argv": sys.argv,
        "path": sys.path[0],
        "file": __file__,
        "package": __package__,
        "main": sys.modules["__main__"].__dict__ is globals(),
        "session": os.getsid(0) == os.getpid(),
        "threads": threads,
        "squares": [int(value) for value in loaded[::2]],
        "loaders_are_ours": {int(value) for value in loaded[1::2]} == {os.getpid()},
        "random": float(np.random.random()),  # noqa: NPY002  # The global generator is what is looked at.
        "environment": dict(os.environ),
    }
    Path(sys.argv[1]).with_suffix(f".{os.environ['RANK']}").write_text(json.dumps(facts))
    sys.stdout.write(f"out of rank {os.environ['RANK']}\n")
    sys.stderr.write(f"err of rank {os.environ['RANK']}\n")
