"""Arenas: host memory laid out as the shard file. Staging is a copy into one; the file is written from it.

A rank has one or two, made once and used again: the first touch of fresh memory costs more than the copy. Where the
launcher offers a folder in a memory filesystem they are files there and outlive the worker, for the next one to
restore from and to go on with. A lock on the open file says that somebody (a trainer, or its persister that still
reads it) uses it, and goes with the last holder of the descriptor, however that ended.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from ...storage.shards import Placed
from ...storage.shared_memory import SharedMemory
from ...storage.staged import Staged
from ..notices import say
from .leftovers import adopted, prefix, sealed_step
from .windows import tensor_at

_SLACK_BYTES = 1 << 20
"""Room to grow, so that a header that gets longer does not cost a new arena with its page faults."""
_LEFT = 0.25
"""The part of a memory filesystem that is left to others."""
_PAGE = 4096


class Arena:
    """One buffer. `seal` is where its seal is put when its content is whole; None when nobody could find it."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self.seal = memory.path.with_suffix(".seal") if memory.path is not None else None
        self._targets: tuple[tuple[Placed, ...], list[torch.Tensor]] = ((), [])
        self._is_pinned = False

    @property
    def descriptor(self) -> int:
        return self._memory.descriptor

    @property
    def size(self) -> int:
        """Bytes that fit in."""
        return self._memory.size

    def unseal(self) -> None:
        """Before the first byte is changed: what is not sealed is torn to whoever looks."""
        if self.seal is not None:
            self.seal.unlink(missing_ok=True)

    def staged(self, size: int) -> Staged:
        """Its first `size` bytes, to be filled or to be handed over."""
        return Staged(descriptor=self.descriptor, view=self._memory.view[:size], seal=self.seal)

    def targets(self, placed: tuple[Placed, ...]) -> list[torch.Tensor]:
        """Each placed piece as a tensor in this memory; made once for the same `placed` object."""
        if placed is not self._targets[0]:
            view = self._memory.view
            self._targets = (placed, [tensor_at(view, each.start, each.piece) for each in placed])
        return self._targets[1]

    def pin(self) -> None:
        """Lock its pages for a GPU, which then copies at full speed and while the host goes on."""
        if not self._is_pinned:
            self._is_pinned = True
            torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(self._address, self.size, 0))

    @property
    def _address(self) -> int:
        return torch.frombuffer(self._memory.view, dtype=torch.uint8).data_ptr()

    def drop(self) -> None:
        """Give the memory back."""
        self.unseal()
        if self._is_pinned:
            torch.cuda.check_error(torch.cuda.cudart().cudaHostUnregister(self._address))
        if self._memory.path is not None:
            self._memory.path.unlink(missing_ok=True)
        self._targets = ((), [])
        self._memory.close()


class Arenas:
    """A rank's arenas, at most `count`. `holds` asks the persister whether it still reads an arena's descriptor."""

    def __init__(self, count: int, rank: int, folder: Path | None, holds: Callable[[int], bool]) -> None:
        """What an earlier worker of this rank has left in `folder` and nobody uses any more is taken over."""
        self._count = count
        self._rank = rank
        self._folder = folder
        self._holds = holds
        self._arenas: list[Arena] = []
        self._newest: Arena | None = None
        self._making: threading.Thread | None = None
        self._adopt()

    @property
    def survive(self) -> bool:
        """Whether a worker that comes back could find what is sealed here."""
        return self._folder is not None

    def prepare(self, size: int) -> None:
        """Have memory for `size` bytes made while the training goes on: its first touch takes longer than a copy."""
        if self._making is None:
            self._making = threading.Thread(target=self._prepare, args=(size,), name="relight-arenas", daemon=True)
            self._making.start()

    def _prepare(self, size: int) -> None:
        with contextlib.suppress(OSError):  # Whoever needs it will hear of it.
            while not self._arenas or (self.survive and self._may_grow):
                self._arenas.append(self._make(size))

    def _made(self) -> None:
        if self._making is not None:
            self._making.join()

    def has_free(self) -> bool:
        """Whether `take` would give one now."""
        return self._may_grow or any(map(self._is_free, self._arenas))

    def take(self, size: int) -> Arena | None:
        """An unsealed arena of at least `size` bytes that nobody reads, or None. The newest is spared if it can be.

        Raises OSError when the host has no memory for it.
        """
        self._made()
        arena = self._spare()
        if arena is None and self._may_grow:
            self._adopt()
            arena = self._spare()
        # A second one is for a copy that outlives its worker, or for a save while the first one is still read.
        keeps_one = self._may_grow and self.survive
        if arena is None and not keeps_one and self._newest is not None and self._is_free(self._newest):
            arena = self._newest
        if arena is not None and arena.size < size:
            self._arenas.remove(arena)
            arena.drop()
            arena = None
        if arena is None and self._may_grow:
            arena = self._make(size)
            self._arenas.append(arena)
        if arena is not None:
            arena.unseal()
            self._newest = arena
        return arena

    @property
    def _may_grow(self) -> bool:
        return len(self._arenas) < self._count

    def _is_free(self, arena: Arena) -> bool:
        return not self._holds(arena.descriptor)

    def _spare(self) -> Arena | None:
        """A free one that is not the newest."""
        return next((arena for arena in self._arenas if arena is not self._newest and self._is_free(arena)), None)

    def _make(self, size: int) -> Arena:
        room = math.ceil((size + _SLACK_BYTES) / _PAGE) * _PAGE
        if self._folder is not None:
            try:
                _leave_some(self._folder, room)
                return Arena(_locked(SharedMemory.create(room, self._free_path(self._folder))))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                say(
                    f"rank {self._rank}: {self._folder} has no room for {room >> 20} MiB, staging in anonymous memory: "
                    "a worker that crashes goes on from the storage"
                )
                self._folder = None
        return Arena(SharedMemory.create(room))

    def _free_path(self, folder: Path) -> Path:
        taken = {path.name for path in folder.iterdir()}
        names = (f"{prefix(self._rank)}{number}.arena" for number in range(len(taken) + 1))
        return folder / next(name for name in names if name not in taken)

    def _adopt(self) -> None:
        """Take over what is there and unused; more than we may have is given back."""
        if self._folder is None:
            return
        mine = {arena.seal for arena in self._arenas}
        unknown, newest = self._newest is None, -1
        for path in sorted(self._folder.glob(f"{prefix(self._rank)}*.arena")):
            memory = adopted(path) if path.with_suffix(".seal") not in mine else None
            if memory is None:
                continue
            arena = Arena(memory)
            if not self._may_grow:
                arena.drop()
                continue
            self._arenas.append(arena)
            step = sealed_step(path.with_suffix(".seal"))
            if unknown and step > newest:  # A torn one is nothing to be spared.
                self._newest, newest = arena, step


def _leave_some(folder: Path, size: int) -> None:
    """Loader workers and NCCL live in the same memory filesystem, and die where it is full. Raises OSError (ENOSPC)."""
    there = os.statvfs(folder)
    if (there.f_bavail - there.f_blocks * _LEFT) * there.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _locked(memory: SharedMemory) -> SharedMemory:
    fcntl.flock(memory.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return memory
