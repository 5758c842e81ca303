"""What the tests of DCP's known faults do, with its own writers and with ours. One process each, played by `ranks`."""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.planner import WriteItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter

import relight
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.workers.parallel import World

ROWS = 1 << 10
WRITERS = ("dcp", "relight")


def state(number: float, tensors: int = 8) -> dict[str, Any]:
    return {f"t{index:02d}": torch.full((ROWS,), float(number)) for index in range(tensors)} | {"number": int(number)}


def numbers(found: dict[str, Any]) -> list[float]:
    """The different numbers that a state holds: one, where it is a state that there has been."""
    values = {
        float(value) for tensor in found.values() if isinstance(tensor, torch.Tensor) for value in tensor.unique()
    }
    return sorted(values | {float(found["number"])})


def writer(which: str, url: str, **options: Any) -> StorageWriter:
    """`options` are those of DCP's own."""
    return relight.dcp.Writer(url) if which == "relight" else FileSystemWriter(url, **options)


def reader(which: str, url: str) -> StorageReader:
    return relight.dcp.Reader(url) if which == "relight" else FileSystemReader(url)


def save(number: float, to: StorageWriter, planner: DefaultSavePlanner | None = None, tensors: int = 8) -> None:
    """DCP's own writer overwrites what is there, ours saves the step of that number, or the same one again."""
    step = f"step-{int(number)}" if isinstance(to, relight.dcp.Writer) else None
    dcp_save(state(number, tensors), storage_writer=to, planner=planner, no_dist=True, checkpoint_id=step)


def loaded(source: StorageReader) -> list[float]:
    into = state(-1)
    load(into, storage_reader=source, no_dist=True)
    return numbers(into)


class Failing(DefaultSavePlanner):
    """`fails` is asked at every tensor that is looked up."""

    def __init__(self, fails: Callable[[], object]) -> None:
        super().__init__()
        self._fails = fails

    def resolve_data(self, write_item: WriteItem) -> Any:
        if write_item.tensor_data is not None:
            self._fails()
        return super().resolve_data(write_item)


def in_a_fork(act: Callable[[], object]) -> int:
    """How a child ends that does this."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:  # noqa: BLE001 -- a fork must end here, whatever happened
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- the faults ---


def overwriting(world: World, directory: Path) -> dict[str, list[float]]:
    """The same step saved twice, killed in the middle of the second time: what is loaded afterwards."""
    return {which: _overwritten(which, str(directory / which)) for which in WRITERS}


def _overwritten(which: str, url: str) -> list[float]:
    save(1, writer(which, url, single_file_per_rank=False))
    opened = Counter[str]()

    def die_at_the_fifth_file(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(url) and arguments[2] & os.O_CREAT:
            opened["files"] += 1
            if opened["files"] == 5:
                os.kill(os.getpid(), signal.SIGKILL)

    def save_again() -> None:
        sys.addaudithook(die_at_the_fifth_file)
        save(2, writer(which, url, single_file_per_rank=False))

    assert in_a_fork(save_again) == -signal.SIGKILL
    return loaded(reader(which, url))


def dead_thread(world: World, directory: Path) -> dict[str, Any]:
    """A writer thread dies: whether the save says so, and how many of 64 tensors and a number are there."""
    threading.excepthook = lambda _: None
    return {which: _with_a_death(which, str(directory / which)) for which in WRITERS}


def _with_a_death(which: str, url: str) -> dict[str, Any]:
    calls = Counter[bool]()

    def die() -> None:
        """In the fifth call of another thread; at the fifth of all where there is no other one."""
        elsewhere = threading.current_thread() is not threading.main_thread()
        calls[elsewhere] += 1
        if calls[elsewhere] >= 5 and (elsewhere or which == "relight"):
            raise OSError("the writer dies")

    said = outcome(lambda: save(1, writer(which, url, thread_count=4), Failing(die), tensors=64))
    if which == "relight":
        return {"said": said, "kept": len(list(Catalog(open_backend(url)).committed()))}
    there = FileSystemReader(url).read_metadata()
    return {"said": said, "promised": len(there.state_dict_metadata), "kept": len(there.storage_data)}


def flipped_bit(world: World, directory: Path) -> dict[str, Any]:
    """One bit of a tensor's bytes changes where they lie: what is loaded, or said."""
    return {which: _with_a_flip(which, directory / which) for which in WRITERS}


def _with_a_flip(which: str, folder: Path) -> Any:
    save(1, writer(which, str(folder)))
    (path,) = [path for path in folder.rglob("*") if path.suffix in {".distcp", ".safetensors"}]
    data = bytearray(path.read_bytes())
    data[data.find(struct.pack("<f", 1) * 100) + 3] ^= 0x40
    path.write_bytes(data)
    found: list[float] = []
    said = outcome(lambda: found.extend(loaded(reader(which, str(folder)))))
    return found or said


def partial_object(world: World, directory: Path) -> dict[str, Any]:
    """An error in the middle of a shard that is sent to S3: the objects that are there afterwards, and their bytes."""
    return {which: _cut_short(which, f"s3://bucket/{directory.name}/{which}") for which in WRITERS}


def _cut_short(which: str, url: str) -> dict[str, Any]:
    import fsspec

    calls = Counter[str]()

    def die() -> None:
        calls["tensor"] += 1
        if calls["tensor"] == 5:
            raise OSError("the GPU is gone")

    said = outcome(lambda: save(1, relight.dcp.Writer(url) if which == "relight" else fsspec_writer(url), Failing(die)))
    files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True).find(url, detail=True)
    data = [entry["size"] for name, entry in files.items() if name.endswith((".distcp", ".safetensors"))]
    return {"said": said, "data": data}


def fsspec_writer(url: str) -> StorageWriter:
    """DCP's own; torch has given its module another name."""
    try:
        from torch.distributed.checkpoint.fsspec_filesystem import FsspecWriter
    except ImportError:
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter
    made: StorageWriter = FsspecWriter(url)
    return made


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except (Exception, CheckpointException) as error:  # noqa: BLE001 -- DCP's is no Exception
        return str(error)
    return "done"
