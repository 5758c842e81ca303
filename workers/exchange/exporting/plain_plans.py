"""What is written of tensors and plain containers alone: weights, and general checkpoints. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ....storage.sealed import canonical
from ...errors import NotExported
from . import content
from .formats import Wishes
from .pickling import stored, write_plain
from .safetensors_file import write_file, write_sharded
from .source import Plan, Source


def state_dict(source: Source, wishes: Wishes) -> Plan:
    entries = source.one_model(wishes.only)
    names = content.tensor_names(entries)
    value = content.decode_plain(entries, stored(source.pieces(names)))
    return Plan(names, lambda path: write_plain(path, value, source.chunks))


def general_checkpoint(source: Source, _: Wishes) -> Plan:
    names = content.tensor_names(content.exported(source.state))
    value = content.general_checkpoint(source.state, stored(source.pieces(names)))
    return Plan(names, lambda path: write_plain(path, value, source.chunks))


def safetensors(source: Source, wishes: Wishes) -> Plan:
    entries = source.one_model(wishes.only)
    by_name = {
        name: next(iter(content.tensor_names(value))) for name, value in entries.items() if content.is_tensor(value)
    }
    pieces = source.pieces(by_name.values())
    named = {name: pieces[stored] for name, stored in by_name.items()}
    metadata = {"format": "pt", **_other_state(entries, by_name)}

    def write(path: Path) -> None:
        def chunks(name: str) -> Iterator[memoryview]:
            return source.chunks(by_name[name])

        if wishes.shard_bytes is None:
            write_file(path, named, metadata, chunks)
        else:
            write_sharded(path, named, metadata, chunks, shard_bytes=wishes.shard_bytes)

    return Plan(by_name.values(), write)


def _other_state(entries: Mapping[str, object], tensors: Collection[str]) -> dict[str, str]:
    """What a model keeps in its state dict beside tensors (`get_extra_state`), which the format has no place for."""
    others = {name: value for name, value in entries.items() if name not in tensors}
    if content.tensor_names(others):
        raise NotExported(
            f"{', '.join(others)} of the model's state dict hold tensors in containers, which safetensors cannot: "
            "use --format state-dict"
        )
    return {"relight.model": canonical(others)} if others else {}
