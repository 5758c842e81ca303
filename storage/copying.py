"""A checkpoint in another place: every byte proven while it is read, in bounded memory, committed as a save is.

The copy is the same run at another URL: its record is copied with it. The copier takes a generation there, as a
launcher does, so that whoever worked there before and is thought gone cannot write any more.
"""

from __future__ import annotations

import mmap
import secrets
import socket
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from . import checksum, generations, living, runs, sweep
from .backends.base import Backend, TakesStreams
from .catalog import Catalog, Standing
from .commit import SaveJob, commit
from .errors import AlreadyExists, NotFound, OtherRun, StorageError
from .layout import RUN_KEY, AttemptId
from .manifest import Manifest
from .probe import is_probe, probe
from .reading import ShardReader
from .receipts import Receipt
from .retention import Rules
from .runs import RunRecord

_THREADS: Final = 4
_ATTEMPT: Final = 1

Advance = Callable[[int], object]


def lies_at(place: Backend, record: RunRecord) -> bool:
    """Whether the place holds this very run already; False where nothing is.

    Raises:
        OtherRun: there is another run, or something else. Nothing was changed.
    """
    try:
        found = runs.read(place)
    except NotFound:
        if not all(is_probe(entry.key) for entry in place.list("")):
            message = f"{place.url} is not empty and holds no run. Nothing was changed. Choose a new place"
            raise OtherRun(message) from None
        return False
    if found.run != record.run:
        facts = ", ".join(f"{key}={value}" for key, value in found.identity.items())
        what = f"another run ({facts})" if facts else "another run"
        message = f"{place.url} holds {what}. Nothing was changed. Choose a new place"
        raise OtherRun(message)
    return True


def find(manifest: Manifest, there: Iterable[Manifest]) -> Manifest | None:
    """The same checkpoint among others: the same state, byte for byte, of the same step."""
    return next((each for each in there if (each.step, each.shards) == (manifest.step, manifest.shards)), None)


class Copier:
    """Takes the place, and then copies into it. `advance` is told of every stretch of bytes, by several threads."""

    def __init__(self, source: Backend, place: Backend, advance: Advance = lambda _: None) -> None:
        self._source = source
        self._place = place
        self._advance = advance
        self._token = uuid.uuid4().hex
        self._generation = 0

    def take(self, record: RunRecord, *, single_writer: bool = False) -> None:
        """Make the place this run's, and the copier its newest writer.

        Raises:
            OtherRun: somebody else's run is there. Nothing was changed.
            NotExclusive, StorageUnavailable: the storage is not fit for a run.
        """
        is_ours = lies_at(self._place, record)
        probe(self._place, single_writer=single_writer)
        if not is_ours:
            with suppress(AlreadyExists):  # By another one in this moment: the next line tells by which.
                self._place.put(RUN_KEY, record.to_bytes())
            lies_at(self._place, record)
        self._place.settle("")
        # No checkpoint that is there may be fenced off by ours.
        newest = max((checkpoint.step for checkpoint in Catalog(self._place).committed()), default=None)
        claimed = generations.claim(
            self._place, incarnation=self._token, resumed_from=newest, host=socket.gethostname()
        )
        self._generation = claimed.number
        self._sweep()

    def _sweep(self) -> None:
        """What copies and saves that were cut off have left there."""
        now = AttemptId(0, self._generation, _ATTEMPT, "000000")
        if living.predecessors(self._place.url):
            return
        listing = [each for each in Catalog(self._place).listing() if each.standing is Standing.UNFINISHED]
        for left in sweep.garbage(listing, now):
            sweep.delete_attempt(self._place, left)

    def copy(self, manifest: Manifest) -> Manifest:
        """Committed, that is durable, when this returns. When it raises, nothing of it is seen, or left if possible.

        Raises:
            Damaged: a byte of the source is not what was written.
            Superseded: a launcher has begun to go on with the run in that place.
        """
        attempt = AttemptId(manifest.step, self._generation, _ATTEMPT, secrets.token_hex(3))
        job = SaveJob(
            id=attempt,
            run=manifest.run,
            token=self._token,
            rank=0,
            world_size=manifest.world_size,
            progress=manifest.progress,
            deadline_s=0.0,
            rules=Rules(),
        )
        try:
            receipts = [self._copy_shard(manifest, rank, attempt) for rank in range(manifest.world_size)]
            return commit(self._place, job, receipts, saved_at=manifest.saved_at)
        except BaseException:
            with suppress(StorageError):  # What went wrong first is what matters. The next start sweeps.
                sweep.delete_attempt(self._place, attempt)
            raise

    def _copy_shard(self, manifest: Manifest, rank: int, attempt: AttemptId) -> Receipt:
        shard = ProvenShard(ShardReader(self._source, manifest, rank), self._advance)
        key = attempt.shard_key(rank, manifest.world_size)
        if isinstance(self._place, TakesStreams):
            self._place.put_stream(key, shard)
        else:
            self._place.put(key, shard[:])
        self._place.put(attempt.receipt_key(rank), shard.reader.receipt.to_bytes())
        return shard.reader.receipt


class ProvenShard:
    """A shard as a backend takes it: each stretch is read and proven when it is asked for."""

    def __init__(self, reader: ShardReader, advance: Advance = lambda _: None) -> None:
        self.reader = reader
        self._advance = advance

    def __len__(self) -> int:
        return self.reader.size

    def __getitem__(self, stretch: slice, /) -> memoryview:
        """Memory that starts on a page where the stretch starts with a block. Raises Damaged."""
        start, end, _ = stretch.indices(len(self))
        block_bytes = self.reader.block_bytes
        blocks = range(start // block_bytes, checksum.block_count(end, block_bytes))
        if start >= end:
            return memoryview(b"")
        origin, limit = self.reader.span(blocks[0])[0], self.reader.span(blocks[-1])[1]
        buffer = memoryview(mmap.mmap(-1, limit - origin))
        self.reader.read_blocks(blocks, buffer, threads=_THREADS)
        self._advance(end - start)
        return buffer[start - origin : end - origin]
