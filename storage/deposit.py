"""One checkpoint out of a stream of bytes, into a place where no run is yet: a run that begins with what was brought.

The bytes are staged in a file without a name, mapped into memory, so that no checkpoint is too large for that; then it
is saved as every other is. What fails on the way is taken back: the place is as it was.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Final

from . import generations, sweep
from .backends.base import Backend, Bytes
from .commit import SaveJob, commit, gather_receipts, write_shard
from .errors import AlreadyExists, NotFound, OtherRun, StorageError, StorageUnavailable
from .layout import CHECKPOINTS, GENERATIONS, RUN_KEY, AttemptId, generation_key
from .manifest import Manifest, Progress
from .probe import probe
from .retention import Rules
from .runs import RunRecord
from .shards import ShardLayout

_ATTEMPT: Final = 1
_DEADLINE_S: Final = 60.0
"""For the one receipt, which is there before it is looked for."""


def refuse_taken(backend: Backend) -> None:
    """Raises OtherRun when there is anything of a run already."""
    taken = bool(backend.list(CHECKPOINTS) or backend.list(GENERATIONS))
    with contextlib.suppress(NotFound):
        backend.size(RUN_KEY)
        taken = True
    if taken:
        raise _taken(backend)


def deposit(
    backend: Backend,
    layout: ShardLayout,
    progress: Progress,
    content: Iterable[Bytes],
    *,
    identity: Mapping[str, str | int] | None = None,
    single_writer: bool = False,
) -> Manifest:
    """Begin a run with one committed checkpoint, as one rank would have written it.

    `content`: the bytes of the layout's pieces in the order of the file, in stretches of any length. With no `identity`
    any run may go on with it. Memory: one stretch; the disk for temporary files holds the whole shard for a while.

    Raises:
        OtherRun: the URL holds a run. Nothing was changed.
        StorageError: it could not be saved, or the storage is not fit for a run. What was there of it is gone.
        ValueError: there is more or less content than the layout says.
    """
    refuse_taken(backend)
    probe(backend, single_writer=single_writer)
    with staged(layout, content) as shard:
        run = RunRecord(run=uuid.uuid4().hex, identity=dict(identity or {}))
        try:
            backend.put(RUN_KEY, run.to_bytes())
        except AlreadyExists:
            raise _taken(backend) from None
        claimed: list[AttemptId] = []
        try:
            return _save(backend, run.run, progress, shard, claimed)
        except BaseException:
            _take_back(backend, claimed)
            raise


@contextlib.contextmanager
def staged(layout: ShardLayout, content: Iterable[Bytes]) -> Iterator[memoryview]:
    """The shard's file, in memory that is a file without a name. Raises StorageUnavailable where there is no room."""
    with tempfile.TemporaryFile(prefix="relight-") as file:
        _reserve(file, layout.size)
        written = file.write(layout.header) + sum(file.write(stretch) for stretch in content)
        if written != layout.size:
            message = f"{written} bytes were brought for a shard of {layout.size}"
            raise ValueError(message)
        file.flush()
        yield memoryview(mmap.mmap(file.fileno(), layout.size))  # Unmapped with the last view of it, not sooner.


def _reserve(file: IO[bytes], size: int) -> None:
    """Before anything is written: a disk that is full in the middle has cost all the time until then."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        message = (
            f"there is no room for {size} bytes of temporary files in {tempfile.gettempdir()} ({error.strerror}): "
            "make room, or set TMPDIR to a folder that has it"
        )
        raise StorageUnavailable(message) from None


def _save(backend: Backend, run: str, progress: Progress, shard: memoryview, claimed: list[AttemptId]) -> Manifest:
    generation = generations.claim(
        backend, incarnation=uuid.uuid4().hex, resumed_from=None, host=socket.gethostname()
    ).number
    attempt = AttemptId(progress.step, generation, _ATTEMPT, secrets.token_hex(3))
    claimed.append(attempt)
    job = SaveJob(
        id=attempt,
        run=run,
        token=uuid.uuid4().hex,
        rank=0,
        world_size=1,
        progress=progress,
        deadline_s=_DEADLINE_S,
        rules=Rules(),
    )
    write_shard(backend, job, shard)
    return commit(backend, job, gather_receipts(backend, job, pause=threading.Event().wait))


def _take_back(backend: Backend, claimed: Iterable[AttemptId]) -> None:
    """As far as the storage lets us, and never what another launcher has begun to go on with."""
    with contextlib.suppress(StorageError):  # Why it failed is what matters, and is on its way.
        for attempt in claimed:
            sweep.delete_attempt(backend, attempt)
            backend.delete(generation_key(attempt.generation))
        if not backend.list(GENERATIONS):  # Else a launcher has found the run, and begun it.
            backend.delete(RUN_KEY)


def _taken(backend: Backend) -> OtherRun:
    return OtherRun(
        f"{backend.url} holds a run already. Nothing was changed. Choose another URL, or go on with the run that is "
        "there"
    )
