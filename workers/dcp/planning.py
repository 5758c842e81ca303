"""What the coordinator works out from all plans: who writes which value, and what the reader must be told. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, WriteItem

from ...storage.errors import SaveFailed
from ..checkpoint.progress import Progress
from .growing import grown
from .naming import LOOSE, NOTES, OPTIMIZER, PROGRESS, Path, fqn, is_bare, stored, tensor_name
from .staging import is_tensor, path_of

_KINDS: Final = ("requires_grad", "pin_memory")


@dataclass(frozen=True, slots=True)
class Outline:
    """The whole state dict as rank 0 knows it: each tensor's path, with one of the items that write it.

    `bare`: see `naming.stored`. `mapped`: whether the planner has said where in a nested state dict things are.
    """

    tensors: Mapping[Path, WriteItem]
    bare: bool
    mapped: bool


def outline(plans: Sequence[SavePlan]) -> Outline:
    placed = [(path_of(plan, item), item) for plan in plans for item in plan.items]
    tensors = {path: item for path, item in placed if is_tensor(item)}
    mapped = all(isinstance(plan.planner_data, Mapping) for plan in plans)
    return Outline(tensors, is_bare(path for path, _ in placed), mapped)


def gathered(plans: Sequence[SavePlan], own: Collection[str]) -> list[SavePlan]:
    """The same plans, but rank 0 writes the values that it has, too: it can then spell the state dict as a whole.

    `own` are the names of its values. DCP has dealt out what several ranks have; a tensor stays where it is.
    """

    def moves(item: WriteItem) -> bool:
        return not is_tensor(item) and item.index.fqn in own

    moved = [item for plan in plans[1:] for item in plan.items if moves(item)]
    first = replace(plans[0], items=[*plans[0].items, *moved])
    return [first, *(replace(plan, items=[each for each in plan.items if not moves(each)]) for plan in plans[1:])]


def state_of(known: Outline, values: Mapping[Path, Any], step: int) -> dict[str, Any]:
    """Rank 0's JSON: the nested state dict, and the notes that a reader needs to take it apart again."""
    leaves: dict[Path, Any] = dict(values)
    origins = {stored(path, bare=known.bare): path for path in known.tensors}
    leaves |= {path: {"$tensor": tensor_name(path)} for path in origins}
    tree, homeless = grown(leaves.items())
    optimizer = tree.get(OPTIMIZER)
    if isinstance(optimizer, dict) and {"state", "param_groups"} <= optimizer.keys():
        optimizer.setdefault("class", None)  # As get_state_dict has it: like Relight's own, but for its class.
    in_tree = [list(path) for path in values if path not in homeless]
    notes = {
        "bare": known.bare,
        "mapped": known.mapped,
        "values": in_tree,
        "properties": {
            fqn(path): noted
            for path, item in known.tensors.items()
            if item.tensor_data and (noted := _noted(item.tensor_data.properties, item.tensor_data.chunk.sizes))
        },
    }
    alone = loose({origins.get(path, path): leaves[path] for path in homeless})
    return {PROGRESS: Progress(step=step).facts(), NOTES: notes, **tree, **alone}


def loose(values: Mapping[Path, Any]) -> dict[str, Any]:
    """What has no place in the tree: values that only one rank has, and what another rank has another thing for."""
    return {f"{LOOSE}{fqn(path)}": {"path": list(path), "value": node} for path, node in values.items()}


def refuse_gaps(metadata: Metadata, written: Collection[MetadataIndex]) -> None:
    """Raise SaveFailed unless everything that the planner has promised was written by some rank."""
    for name, what in metadata.state_dict_metadata.items():
        places: Iterable[MetadataIndex] = (
            [MetadataIndex(name)]
            if isinstance(what, BytesStorageMetadata)
            else (MetadataIndex(name, chunk.offsets) for chunk in what.chunks)
        )
        if missing := [place for place in places if place not in written]:
            where = f" at {list(missing[0].offset)}" if missing[0].offset else ""
            raise SaveFailed(f"no rank has written {name}{where}, which the plan has: there will be no checkpoint")


def _noted(properties: TensorProperties, sizes: Sequence[int]) -> dict[str, Any]:
    """What a header cannot say of a tensor: only what is not as usual. Loading does without it."""
    noted: dict[str, Any] = {kind: True for kind in _KINDS if getattr(properties, kind)}
    strides = getattr(properties, "strides", None)  # torch 2.10 has none.
    if strides is not None and tuple(strides) != _contiguous(sizes):
        noted["strides"] = list(strides)
    return noted


def _contiguous(sizes: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(sizes):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))
