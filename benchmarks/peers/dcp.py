"""torch.distributed.checkpoint: `save`, `async_save` as it comes, and `async_save` with a stager that is kept."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, cast

import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.staging import AsyncStager, DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from relight.dcp import Reader, Writer
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.storage.sweep import delete_attempt

from ..states import Live
from .contender import Contender, Place


class DcpSave(Contender):
    """On an object store through DCP's own FsspecWriter and FsspecReader."""

    title = "dcp.save"
    note = "fsyncs its files but no folder: a power cut may lose the names"

    def save(self, number: int) -> None:
        save(self.live.state_dict(), storage_writer=self.writer(number))

    def load(self, number: int) -> None:
        """In place: what is loaded into are the live tensors themselves."""
        load(self.live.state_dict(), storage_reader=self.reader(number))

    def writer(self, number: int) -> Any:
        if self.place.remote:
            from torch.distributed.checkpoint.fsspec_filesystem import FsspecWriter

            return FsspecWriter(self.place.of(number))
        return FileSystemWriter(self.place.of(number))

    def reader(self, number: int) -> Any:
        if self.place.remote:
            from torch.distributed.checkpoint.fsspec_filesystem import FsspecReader

            return FsspecReader(self.place.of(number))
        return FileSystemReader(self.place.of(number))


class DcpOverRelight(DcpSave):
    title = "dcp.save to relight.dcp.Writer"
    note = "DCP's plan and its collectives, Relight's shards and commit"
    durable = True
    verifies = True

    def save(self, number: int) -> None:
        save(self.live.state_dict(), checkpoint_id=f"step-{number}", storage_writer=Writer(self.place.url))

    def load(self, number: int) -> None:
        load(self.live.state_dict(), checkpoint_id=f"step-{number}", storage_reader=Reader(self.place.url))

    def drop(self, number: int) -> None:
        if self.rank == 0:
            backend = open_backend(self.place.url)
            for attempt in Catalog(backend).attempts():
                if attempt.step == number:
                    delete_attempt(backend, attempt)


class DcpAsync(DcpSave):
    title = "dcp.async_save"
    note = "its default: a new stager, and new memory, for each save. It is loaded as dcp.save's is"
    loads = False

    def __init__(self, live: Live, place: Place) -> None:
        super().__init__(live, place)
        # Its thread runs collectives, which must not meet those of the training.
        self._group = cast("dist.ProcessGroup", dist.new_group(backend="gloo"))
        self._stager = self.stager()
        self._saved: Future[Any] | None = None

    def stager(self) -> AsyncStager | None:
        return None

    def save(self, number: int) -> None:
        begun = async_save(
            self.live.state_dict(),
            storage_writer=self.writer(number),
            process_group=self._group,
            async_stager=self._stager,
        )
        self._saved = cast("Future[Any]", begun)

    def settle(self, number: int) -> None:  # noqa: ARG002 -- there is only one under way
        assert self._saved is not None
        self._saved.result()

    def close(self) -> None:
        if self._stager is not None:
            self._stager.close()
        dist.destroy_process_group(self._group)


class DcpAsyncKeptStager(DcpAsync):
    title = "dcp.async_save, kept stager"
    note = "one DefaultStager for all saves: its memory stays warm"

    def stager(self) -> AsyncStager | None:
        # Without a GPU nothing can be pinned, and staging in its thread would only move the same wait elsewhere.
        return DefaultStager(
            StagingOptions(
                use_pinned_memory=False,
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=False,
            )
        )
