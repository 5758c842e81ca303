"""Places that a command may be pointed at, sound and otherwise.

`from relight.tests.verbs.places import make_run`
"""

from __future__ import annotations

from pathlib import Path

from relight.storage import generations, runs
from relight.storage.backends.base import Backend
from relight.storage.backends.local import LocalBackend
from relight.storage.manifest import Manifest
from relight.tests.storage.checkpoints import attempt_id, persist_rank


def make_run(root: Path, *steps: int, name: str = "digits") -> LocalBackend:
    """A run of two ranks with these steps committed, without torch."""
    backend = LocalBackend(root)
    fill(backend, *steps, name=name)
    return backend


def fill(backend: Backend, *steps: int, name: str = "digits") -> None:
    run = runs.register(backend, {"name": name})
    generations.claim(backend, incarnation="one", resumed_from=None, host="here")
    for step in steps:
        for rank in (1, 0):
            outcome = persist_rank(backend, attempt_id(step), rank, run=run.run, keep_last=99)
            assert not outcome.failed, outcome.failed


def shard(root: Path, manifest: Manifest, rank: int = 0) -> Path:
    return root / manifest.shard_key(rank)


def flip(path: Path, at: int = -1) -> None:
    """One bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
