"""Files in the safetensors format, streamed: the header is known before the first byte of a tensor is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ....storage.shards import ITEM_BYTES, Piece

INDEX: Final = "model.safetensors.index.json"

Chunks = Callable[[str], Iterable[memoryview]]


def write_file(path: Path, pieces: Mapping[str, Piece], metadata: Mapping[str, str], chunks: Chunks) -> None:
    """`pieces` by the names that they get; `chunks` are of those names."""
    header, names = _header(pieces, metadata)
    with path.open("xb") as file:
        file.write(header)
        for name in names:
            for part in chunks(name):
                file.write(part)


def write_sharded(
    folder: Path, pieces: Mapping[str, Piece], metadata: Mapping[str, str], chunks: Chunks, *, shard_bytes: int
) -> None:
    """Files of at most `shard_bytes` (a larger tensor has one to itself) and their index, named as the Hub expects."""
    shards = cut(pieces, shard_bytes)
    if len(shards) == 1:
        write_file(folder / "model.safetensors", pieces, metadata, chunks)
        return
    files: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / file, {name: pieces[name] for name in names}, metadata, chunks)
        files |= dict.fromkeys(names, file)
    index = {
        "metadata": {"total_size": sum(piece.size for piece in pieces.values())},
        "weight_map": dict(sorted(files.items())),
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def cut(pieces: Mapping[str, Piece], shard_bytes: int) -> list[list[str]]:
    """The names in as many lists as there are to be files, in order, each filled before the next is begun. Pure."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, piece in pieces.items():
        if shards[-1] and filled + piece.size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += piece.size
    return shards


def _header(pieces: Mapping[str, Piece], metadata: Mapping[str, str]) -> tuple[bytes, Sequence[str]]:
    """The header with its length, and the names in the order of their bytes: widest elements first, so all align."""
    names = sorted(pieces, key=lambda name: (-ITEM_BYTES[pieces[name].dtype], name))
    document: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        piece = pieces[name]
        document[name] = {"dtype": piece.dtype, "shape": list(piece.shape), "data_offsets": [end, end + piece.size]}
        end += piece.size
    text = json.dumps(document, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text, names
