"""One rank's reading: a bucket at a time, each proven, copied to where nothing is lost by it, and let go of.

While one half of it is copied the other is read. What goes into live tensors waits until all ranks have proven all.
"""

from __future__ import annotations

import bisect
import mmap
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ...storage.boxes import Span
from .assigning import Parcel, Run, blocks
from .blank import Blank
from .candidate import Candidate
from .placing import Want, pairs
from .sharing import Shelf
from .staging import Copier

BUCKET_BYTES = 128 << 20
"""Of what has been read and is not yet where it belongs: the half that is being copied, and the half that comes."""


class Reading:
    """What this rank reads of one candidate. `parcels` are its own, in order, those that are there already included."""

    def __init__(self, parcels: Sequence[Parcel], wants: Sequence[Want], block_bytes: Sequence[int]) -> None:
        self._parcels = parcels
        self._block_bytes = block_bytes
        runs: dict[int, list[Run]] = {}
        for parcel in parcels:
            own = runs.setdefault(parcel.shard, [])
            if own and own[-1][1] == parcel.first:
                own[-1] = (own[-1][0], parcel.end)
            else:
                own.append((parcel.first, parcel.end))
        early = {id(want) for want in wants if want.is_new and self._is_covered(want, runs.get(want.shard, []))}
        self.late = [want for want in wants if id(want) not in early]
        """What can only be copied when all ranks have brought what they read, and all is proven."""
        self._early: dict[int, deque[tuple[Span, Want]]] = {}
        for want in sorted((want for want in wants if id(want) in early), key=lambda want: want.placed.start):
            self._early.setdefault(want.shard, deque()).append((_extent(want), want))
        self._free = {shard: deque(self._private(shard)) for shard in runs}

    def run(self, candidate: Candidate, shelf: Shelf, there: Sequence[int], copier: Copier) -> None:
        """Read, prove, copy. Raises as `Candidate.read`; then what was copied so far is of no use."""
        for shard in self._free:
            self._land(shard, there[shard], shelf, copier)
        with ThreadPoolExecutor(1, thread_name_prefix="relight-read") as pool:
            reading: deque[tuple[int, int, Future[None]]] = deque()
            for shard, run in self._buckets(there):
                work = pool.submit(candidate.read, shard, range(*run), shelf.views[shard])
                reading.append((shard, run[1], work))
                if len(reading) > 1:
                    self._await(*reading.popleft(), shelf, copier)
            while reading:
                self._await(*reading.popleft(), shelf, copier)

    def _buckets(self, there: Sequence[int]) -> Iterator[tuple[int, Run]]:
        for parcel in self._parcels:
            length = max(1, BUCKET_BYTES // 2 // self._block_bytes[parcel.shard])
            for first in range(max(parcel.first, there[parcel.shard]), parcel.end, length):
                yield parcel.shard, (first, min(first + length, parcel.end))

    def _await(self, shard: int, end: int, work: Future[None], shelf: Shelf, copier: Copier) -> None:
        work.result()
        self._land(shard, end, shelf, copier)

    def _land(self, shard: int, end: int, shelf: Shelf, copier: Copier) -> None:
        """All of a shard's own blocks before `end` are there: copy what is complete, let go of what is not needed."""
        frontier = end * self._block_bytes[shard]
        waiting = self._early.get(shard, deque())
        complete = []
        while waiting and waiting[0][0][1] <= frontier:
            complete.append(waiting.popleft()[1])
        copier.copy(pairs(complete, shelf.views))
        if shard in shelf.blanks:
            self._let_go(shard, min(frontier, waiting[0][0][0]) if waiting else frontier, shelf.blanks[shard])

    def _let_go(self, shard: int, frontier: int, memory: Blank) -> None:
        free = self._free[shard]
        while free and free[0][0] < frontier:
            start, stop = free.popleft()
            if stop > frontier:  # A page that is cut here goes with the rest.
                rest = max(start, frontier // mmap.PAGESIZE * mmap.PAGESIZE)
                free.appendleft((rest, stop))
                stop = rest
                if start == rest:
                    return
            memory.give_back(start, min(stop, memory.size))

    def _is_covered(self, want: Want, runs: Sequence[Run]) -> bool:
        size = self._block_bytes[want.shard]
        return all(_lies_in(run, runs) for run in blocks(want.spans(size), size))

    def _private(self, shard: int) -> Iterator[Span]:
        """Bytes that nobody looks at any more once they are copied."""
        size = self._block_bytes[shard]
        kept = sorted(_extent(want) for want in self.late if want.shard == shard)
        for parcel in self._parcels:
            if parcel.shard != shard or not parcel.is_private:
                continue
            start, end = parcel.first * size, parcel.end * size
            for low, high in kept:
                if low < end and high > start:
                    if start < low:
                        yield start, low
                    start = max(start, high)
            if start < end:
                yield start, end


def _extent(want: Want) -> Span:
    """From the first to the last of its bytes."""
    found = want.spans(1 << 62)
    return found[0][0], found[-1][1]


def _lies_in(run: Run, runs: Sequence[Run]) -> bool:
    place = bisect.bisect_right(runs, run[0], key=lambda own: own[0]) - 1
    return place >= 0 and run[1] <= runs[place][1]
