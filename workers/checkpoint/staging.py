"""Staging: the copy of the live state into an arena, which is all that a save costs the training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch.distributed.tensor import DTensor

from ...storage.arrangement import Arrangement, arrange, lay_out
from ...storage.boxes import Box
from ...storage.shards import Piece, Placed, ShardLayout
from .arenas import Arena
from .geometry import held, local_part
from .plan import TensorSpec, share
from .state import Captured, spec_of
from .windows import box_of

_SPREAD_BYTES = 32 << 20
"""Less than this is copied sooner by one thread than it is spread over several."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""Where to, and what."""


class Planner:
    """Lays a rank's shards out. What depends on the state's structure alone is worked out once for each structure."""

    def __init__(self, rank: int, world_size: int) -> None:
        self._rank = rank
        self._world_size = world_size
        self._structure: object = None
        self._arrangement = arrange(())
        self._placed: tuple[Placed, ...] = ()
        self._header_bytes = 0

    def layout(self, captured: Captured) -> ShardLayout:
        """This rank's shard of the captured state. Raises NotCaptured as `spec_of` does."""
        specs = captured.specs()
        own = [spec_of(name, tensor) for name, tensor in captured.own_tensors.items()]
        if (specs, own) != self._structure:
            self._arrangement = self._arrange(specs, own)
            self._structure = (specs, own)
        state = captured.own_state | (captured.state if self._rank == 0 else {})
        layout = lay_out(self._arrangement, state, min_header_bytes=self._header_bytes)
        if layout.placed != self._placed:
            self._placed = layout.placed
        # A header never shrinks again, so that the tensors stay where they are and the arena's pages stay warm.
        self._header_bytes = len(layout.header)
        return replace(layout, placed=self._placed)

    def _arrange(self, specs: list[TensorSpec], own: list[TensorSpec]) -> Arrangement:
        pieces = share(specs, self._rank, self._world_size)
        return arrange([*pieces, *(Piece.whole(spec.name, spec.dtype, spec.shape) for spec in own)])


@dataclass(frozen=True, slots=True)
class Work:
    """The copies of one staging: those that must be made at once, and those that may be made behind the next step."""

    now: list[Pair]
    later: list[Pair]


def work(arena: Arena, layout: ShardLayout, captured: Captured, may_wait: Callable[[str], bool]) -> Work:
    """What is to be copied into `arena`; the header is put there."""
    arena.staged(len(layout.header)).view[:] = layout.header
    sources: Mapping[str, torch.Tensor] = captured.tensors | captured.own_tensors
    parts = Work([], [])
    for placed, target in zip(layout.placed, arena.targets(layout.placed), strict=True):
        piece = placed.piece
        if piece.size:
            pair = (target, source_of(sources[piece.name], piece))
            (parts.later if may_wait(piece.name) else parts.now).append(pair)
    return parts


def source_of(tensor: torch.Tensor, piece: Piece) -> torch.Tensor:
    """The part of a live tensor that a piece is a copy of."""
    box = Box.of(piece)
    if isinstance(tensor, DTensor):
        return box_of(local_part(tensor), held(tensor, piece.name).box, box)
    return box_of(tensor, Box.whole(piece.global_shape), box)


class Copier:
    """Copies tensors: with several threads where the host has processors for it, and with a stream of its own on a GPU.

    `threads`: how many may copy at once.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="relight-copy")
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def copy(self, pairs: list[Pair]) -> None:
        """Copy now; everything is there on return."""
        total = sum(target.nbytes for target, _ in pairs)
        if self._threads > 1 and total >= _SPREAD_BYTES and not _on_gpu(pairs):
            for done in [self._pool.submit(_copy, part) for part in _spread(pairs, self._threads)]:
                done.result()
        else:
            self._issue(pairs)()

    def begin(self, pairs: list[Pair]) -> Callable[[], object]:
        """Copy while the caller goes on. What is returned waits for the end; until then the sources must not change."""
        if _on_gpu(pairs):
            return self._issue(pairs)
        done: Future[None] = self._pool.submit(_copy, pairs)
        return done.result

    def _issue(self, pairs: list[Pair]) -> Callable[[], object]:
        """Start the copies where the sources are; what is returned waits for them."""
        events = []
        by_device: dict[torch.device, list[Pair]] = {}
        for pair in pairs:
            by_device.setdefault(pair[1].device, []).append(pair)
        for device, group in by_device.items():
            if device.type != "cuda":
                _copy(group)
                continue
            stream = self._streams.setdefault(device, torch.cuda.Stream(device))
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                torch._foreach_copy_(
                    [target for target, _ in group], [source for _, source in group], non_blocking=True
                )
                events.append(stream.record_event())
        return lambda: [event.synchronize() for event in events]


def _copy(pairs: Iterable[Pair]) -> None:
    pairs = list(pairs)
    if pairs:
        # One call for thousands of small tensors; it lets go of the interpreter while it copies.
        with torch.no_grad():  # Set per thread.
            torch._foreach_copy_([target for target, _ in pairs], [source for _, source in pairs])


def _on_gpu(pairs: list[Pair]) -> bool:
    return any(source.is_cuda for _, source in pairs)


def _spread(pairs: list[Pair], parts: int) -> list[list[Pair]]:
    """The same copies in `parts` lists of about equal bytes; large tensors are cut along dimension 0."""
    limit = math.ceil(sum(target.nbytes for target, _ in pairs) / parts)
    spread: list[list[Pair]] = [[]]
    room = limit
    for target, source in pairs:
        start, rows = 0, target.shape[0] if target.ndim else 1
        row_bytes = max(target.nbytes // rows, 1)
        while start < rows:
            taken = min(rows - start, max(1, room // row_bytes))
            spread[-1].append(
                (target[start : start + taken], source[start : start + taken]) if taken < rows else (target, source)
            )
            start += taken
            room -= taken * row_bytes
            if room < row_bytes and len(spread) < parts:
                spread.append([])
                room = limit
    return spread
