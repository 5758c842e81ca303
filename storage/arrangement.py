"""Laying a shard out: where each piece lies in the file. Sizes and offsets only: the bytes are copied elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .sealed import canonical
from .shards import (
    ITEM_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADER_CONTAINERS,
    MAX_HEADER_VALUES,
    METADATA,
    PIECES,
    STATE,
    Piece,
    Placed,
    ShardLayout,
    is_too_rich,
)

_HEADER_STEP = 4096
"""Headers are padded to whole pages, so that tensor data starts on one and small changes do not move it."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Pieces in file order, each at its place in the file's data part. It depends on what is saved, not on values."""

    pieces: tuple[Piece, ...]
    starts: tuple[int, ...]
    size: int
    """Bytes of all pieces."""
    entries: str
    """The pieces' part of the header, as JSON without the outer braces."""
    geometry: str


def arrange(pieces: Iterable[Piece]) -> Arrangement:
    """Lay the pieces out one after the other, widest elements first, so that each is aligned to its own dtype.

    Of these the small ones come first: most of what several ranks need (step counts, biases) is then in few blocks.

    Raises ValueError when a piece comes twice.
    """
    ordered = sorted(pieces, key=lambda piece: (-ITEM_BYTES[piece.dtype], piece.size, piece.name, piece.offset))
    _refuse_twins(ordered)
    header: dict[str, Any] = {METADATA: None}
    starts = []
    geometry = {}
    end = 0
    for piece in ordered:
        key = _free_key(piece, header)
        header[key] = {"dtype": piece.dtype, "shape": list(piece.shape), "data_offsets": [end, end + piece.size]}
        if not piece.is_whole or key != piece.name:
            geometry[key] = [piece.name, list(piece.global_shape), list(piece.offset)]
        starts.append(end)
        end += piece.size
    del header[METADATA]
    return Arrangement(tuple(ordered), tuple(starts), end, _json(header)[1:-1], canonical(geometry))


def lay_out(arrangement: Arrangement, state: Mapping[str, Any], *, min_header_bytes: int = 0) -> ShardLayout:
    """The shard of these pieces with this JSON `state`.

    `min_header_bytes` keeps room for a header that grows a little from save to save. Raises ValueError when `state`
    is not strict JSON, or the header would be longer than any reader accepts.
    """
    metadata = _json({PIECES: arrangement.geometry, STATE: canonical(dict(state))})
    text = f'{{"{METADATA}":{metadata}{"," if arrangement.entries else ""}{arrangement.entries}}}'
    header = _padded(text.encode(), min_header_bytes)
    placed = tuple(
        Placed(piece, len(header) + start) for piece, start in zip(arrangement.pieces, arrangement.starts, strict=True)
    )
    return ShardLayout(header, placed, len(header) + arrangement.size, state)


def plan(pieces: Iterable[Piece], state: Mapping[str, Any], *, min_header_bytes: int = 0) -> ShardLayout:
    """`arrange` and `lay_out` in one."""
    return lay_out(arrange(pieces), state, min_header_bytes=min_header_bytes)


def _refuse_twins(ordered: Sequence[Piece]) -> None:
    seen = set()
    for piece in ordered:
        if (piece.name, piece.offset) in seen:
            message = f"the piece of {piece.name!r} at {list(piece.offset)} is planned twice"
            raise ValueError(message)
        seen.add((piece.name, piece.offset))


def _free_key(piece: Piece, header: Mapping[str, Any]) -> str:
    """The tensor's own name where it is free, which it is unless a shard holds several pieces of one tensor."""
    key = piece.name
    while key in header:
        key = f"{key}@{','.join(map(str, piece.offset))}"
    return key


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _padded(text: bytes, min_bytes: int) -> bytes:
    """Length (8 bytes, little endian), JSON, and spaces up to a whole number of pages, as the format allows."""
    length = max(len(text) + 8, min_bytes)
    padded = -(-length // _HEADER_STEP) * _HEADER_STEP
    if padded > MAX_HEADER_BYTES:
        message = f"the shard's header would be {padded} bytes long; {MAX_HEADER_BYTES} are possible. Keep less in JSON"
        raise ValueError(message)
    if is_too_rich(text):
        message = (
            f"the shard's header would hold more than {MAX_HEADER_CONTAINERS} lists and objects or "
            f"{MAX_HEADER_VALUES} values. Keep less in JSON, and what is long in tensors"
        )
        raise ValueError(message)
    return (padded - 8).to_bytes(8, "little") + text.ljust(padded - 8)
