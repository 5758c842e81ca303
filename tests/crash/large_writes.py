"""The power goes right after large writes, past the page cache, were said to be durable.

`python -m relight.tests.crash.large_writes xfs` prints as JSON how many were written, how many of those past the cache,
and how many are not there, or not as they were, after the next mount. It needs root.
"""

from __future__ import annotations

import argparse
import json
import mmap
import random
import sys
import tempfile
from pathlib import Path

from relight.storage.backends.local import LocalBackend
from relight.storage.backends.page_cache import cached_bytes
from relight.tests.crash.medium import KINDS, Medium

ROUNDS = 8
SIZES = (1 << 20, (1 << 20) + 1, (2 << 20) + 4095, (3 << 20) + 4097)


def pages(size: int, dice: random.Random) -> memoryview:
    """Memory that starts on a page, as an arena's does."""
    memory = memoryview(mmap.mmap(-1, size))
    memory[:] = dice.randbytes(size)
    return memory


def is_past_the_cache(path: Path) -> bool:
    with path.open("rb") as file:
        return cached_bytes(file.fileno(), 0, path.stat().st_size) <= 2 * mmap.PAGESIZE


def run(kind: str) -> dict[str, int]:
    dice = random.Random(0)
    figures = {"written": 0, "past_the_cache": 0, "lost": 0}
    with tempfile.TemporaryDirectory() as folder:
        medium = Medium(kind, Path(folder))
        for number in range(ROUNDS):
            written = {f"{number}/{size}": pages(size, dice) for size in SIZES}
            with medium.mounted():
                backend = LocalBackend(medium.point)
                for key, data in written.items():
                    backend.put(key, data)
                    figures["written"] += 1
                    figures["past_the_cache"] += is_past_the_cache(medium.point / key)
                medium.cut_power()
            with medium.mounted():
                there = LocalBackend(medium.point)
                figures["lost"] += sum(there.read(key) != data for key, data in written.items())
                for key in written:
                    there.delete(key)
        medium.close()
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    json.dump(run(parser.parse_args().kind), sys.stdout)
