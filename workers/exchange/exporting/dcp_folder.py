"""A folder as `torch.distributed.checkpoint.save` writes it, of tensors that are brought one at a time."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter, _StorageInfo  # The latter is in every .metadata.
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from ...checkpoint.dtypes import DTYPES
from . import content
from .blanks import Blanks
from .formats import Wishes
from .source import Plan, Source

_FILE: Final = "__0_0.distcp"


def dcp(source: Source, _: Wishes) -> Plan:
    state = content.exported(source.state)
    names = content.tensor_names(state)
    blanks = Blanks(source.pieces(names))
    spelled = json.dumps({"format": content.LAYOUT, "state": state}, allow_nan=False)
    tree = {**content.nested(state, blanks.tensors), "relight": spelled}
    return Plan(names, lambda folder: write_dcp(folder, tree, blanks, lambda name: _whole(source, name)))


def _whole(source: Source, name: str) -> torch.Tensor:
    piece = source.pieces([name])[name]
    tensor = torch.empty(piece.shape, dtype=DTYPES[piece.dtype])
    data = tensor.view(-1).view(torch.uint8).numpy().data
    start = 0
    for part in source.chunks(name):
        data[start : start + part.nbytes] = part
        start += part.nbytes
    return tensor


def write_dcp(folder: Path, state: dict[str, Any], blanks: Blanks, bring: Callable[[str], torch.Tensor]) -> None:
    """Write `state`, with what `bring` gives in the place of `blanks`, by this process alone.

    What `bring` raises, or the disk, is raised as it is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # That there are no other ranks.
        try:
            save(state, storage_writer=_OneByOne(folder), planner=_Bringing(blanks, bring), no_dist=True)
        except CheckpointException as error:  # It wraps all that ranks raise, here one's: a Ctrl-C, too.
            raise error.failures[0][0] from None


class _Bringing(DefaultSavePlanner):
    """Plans with what stands for the tensors, and has each brought when it is its turn to be written."""

    def __init__(self, blanks: Blanks, bring: Callable[[str], torch.Tensor]) -> None:
        super().__init__()
        self._blanks = blanks
        self._bring = bring

    def lookup_object(self, index: MetadataIndex) -> Any:
        found = super().lookup_object(index)
        if isinstance(found, torch.Tensor) and (name := self._blanks.name_of(found.data_ptr())) is not None:
            return self._bring(name)
        return found


class _OneByOne(FileSystemWriter):
    """One file, and one tensor in memory. (The base class keeps all it has written until its file is closed.)"""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        written = []
        with (Path(self.path) / _FILE).open("xb") as file:
            for item in plan.items:
                start = file.tell()
                data = planner.resolve_data(item)
                if isinstance(data, io.BytesIO):
                    file.write(data.getbuffer())
                else:
                    torch.save(data, file)
                del data  # Before the next one is brought.
                length = file.tell() - start
                written.append(WriteResult(item.index, length, _StorageInfo(_FILE, start, length)))
        done: Future[list[WriteResult]] = Future()
        done.set_result(written)
        return done
