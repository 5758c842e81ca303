"""A filesystem that shuts itself down in the middle of the sync of a folder, as after an error of its device.

`python -m relight.tests.crash.last_words xfs` prints as JSON at how many syncs of a commit that was tried, after how
many the commit was announced all the same, and how many of those are not there after the next mount. It needs root.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import stat
import sys
import tempfile
from pathlib import Path

from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.tests.crash.medium import KINDS, Medium
from relight.tests.storage.checkpoints import attempt_id, persist_rank

_fsync = os.fsync


class Trap:
    """In place of `os.fsync`: shuts down when the `number`-th folder to be synced is open already."""

    def __init__(self, medium: Medium, number: int) -> None:
        self._medium = medium
        self.left = number

    def __call__(self, descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self.left -= 1
            if self.left == 0:
                self._medium.cut_power()
        _fsync(descriptor)


def commit(medium: Medium, root: Path, number: int) -> tuple[bool, bool]:
    """Whether it came to the shutdown, and whether the commit was announced."""
    with medium.mounted():
        backend = LocalBackend(root)
        persist_rank(backend, attempt_id(1), 1)
        trap = Trap(medium, number)
        os.fsync = trap  # type: ignore[assignment]  # Files are synced by descriptor here.
        try:
            announced = persist_rank(backend, attempt_id(1), 0).committed
        finally:
            os.fsync = _fsync
    return trap.left <= 0, announced


def run(kind: str) -> dict[str, int]:
    figures = {"places": 0, "announced": 0, "lost": 0}
    with tempfile.TemporaryDirectory() as folder:
        medium = Medium(kind, Path(folder))
        while True:
            root = medium.point / str(figures["places"])
            shut_down, announced = commit(medium, root, figures["places"] + 1)
            if not shut_down:
                break
            figures["places"] += 1
            figures["announced"] += announced
            with medium.mounted():
                figures["lost"] += announced and not list(Catalog(LocalBackend(root)).committed())
        medium.close()
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    logging.disable(logging.WARNING)  # The storage complains of every shutdown.
    json.dump(run(parser.parse_args().kind), sys.stdout)
