"""The shard file: a safetensors file that the safetensors library alone can read, with the global geometry beside.

What is read is checked here; what is written is laid out in `arrangement.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .errors import Damaged
from .sealed import is_bulky, strict_json

ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""Element sizes in bytes, by the dtype names of the safetensors format."""

MAX_HEADER_BYTES = 32 << 20
"""With the 8 bytes that hold the length. A tensor takes about 200. (The safetensors library stops at 100 MB.)"""

MAX_HEADER_CONTAINERS = 1 << 19
MAX_HEADER_VALUES = 1 << 21
"""Lists and objects, and values, in a header: three and six for a tensor, as many again for a part of one."""

MAX_SIZE = 1 << 63
MAX_DIMS = 64
"""No header of ours says more; one that does is refused before anything is computed with it or allocated for it."""

METADATA = "__metadata__"
STATE = "relight.state"
PIECES = "relight.pieces"


@dataclass(frozen=True, slots=True)
class Piece:
    """A box of a global tensor, as one shard holds it.

    `name` and `global_shape` are the global tensor's, `offset` is where the box starts in it (elements per dimension),
    `shape` is the box. A whole tensor is a box with offset 0 and the global shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in ITEM_BYTES:
            message = f"tensor {self.name!r} has dtype {self.dtype!r}, which a shard cannot hold"
            raise ValueError(message)
        dims = {len(self.shape), len(self.global_shape), len(self.offset)}
        if len(dims) != 1 or not all(map(_fits, self.offset, self.shape, self.global_shape)):
            message = (
                f"the piece of {self.name!r} at {list(self.offset)} of shape {list(self.shape)} "
                f"does not lie in its tensor of shape {list(self.global_shape)}"
            )
            raise ValueError(message)

    @classmethod
    def whole(cls, name: str, dtype: str, shape: tuple[int, ...]) -> Self:
        return cls(name, dtype, shape, shape, (0,) * len(shape))

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    @property
    def is_whole(self) -> bool:
        return self.shape == self.global_shape


@dataclass(frozen=True, slots=True)
class Placed:
    """A piece and where its bytes lie in the file: [start, start + piece.size)."""

    piece: Piece
    start: int


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """A planned or parsed shard: its header bytes, its pieces in file order, its JSON state, its size in bytes."""

    header: bytes
    placed: tuple[Placed, ...]
    size: int
    state: Mapping[str, Any] = field(default_factory=dict)


def header_bytes(prefix: bytes, size: int, key: str) -> int:
    """Length of the header from a shard's first 8 bytes; raises `Damaged` when it cannot be one."""
    if len(prefix) < 8:
        raise Damaged(key, f"it is {len(prefix)} bytes long and cannot hold a header")
    length = 8 + int.from_bytes(prefix[:8], "little")
    if length > min(size, MAX_HEADER_BYTES):
        raise Damaged(key, f"its header claims {length} bytes, which cannot be")
    return length


def is_too_rich(header: bytes) -> bool:
    """Would parsing it take more memory than a header is given?"""
    return is_bulky(header, containers=MAX_HEADER_CONTAINERS, values=MAX_HEADER_VALUES)


def parse(header: bytes, size: int, key: str) -> ShardLayout:
    """The layout that a shard's header (with its 8 length bytes) describes.

    Raises `Damaged` unless every dtype is known, shapes and lengths agree, and the tensors fill the rest of the file
    (`size` bytes in all) without a gap or an overlap.
    """
    if is_too_rich(header):
        raise Damaged(key, f"its header holds more than {MAX_HEADER_CONTAINERS} lists or {MAX_HEADER_VALUES} values")
    document = strict_json(header[8:], key)
    try:
        metadata = document.pop(METADATA)
        geometry = strict_json(metadata[PIECES].encode(), key)
        state = dict(strict_json(metadata[STATE].encode(), key).items())
        placed = tuple(_place(document, geometry, len(header)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(key, f"its header is not one of Relight's ({type(error).__name__}: {error})") from None
    end = placed[-1].start + placed[-1].piece.size if placed else len(header)
    if end != size:
        raise Damaged(key, f"its tensors end at byte {end}, the file at byte {size}")
    return ShardLayout(header, placed, size, state)


def _place(document: Mapping[str, Any], geometry: Mapping[str, Any], end: int) -> Iterator[Placed]:
    """The pieces in file order, the first of which starts at byte `end`; ValueError at a gap or an overlap."""
    base = end
    spans = [(entry["data_offsets"], name) for name, entry in document.items()]
    for (start, stop), name in sorted(spans):
        piece = _piece(name, document[name], geometry.get(name))
        if base + _natural(start) != end or _natural(stop) - start != piece.size:
            message = f"tensor {name!r} does not lie where its neighbours and its shape put it"
            raise ValueError(message)
        yield Placed(piece, end)
        end += piece.size


def _piece(name: str, entry: Mapping[str, Any], geometry: list[Any] | None) -> Piece:
    shape = _naturals(entry["shape"])
    if geometry is None:
        return Piece.whole(name, entry["dtype"], shape)
    global_name, global_shape, offset = geometry
    if not isinstance(global_name, str):
        message = f"{global_name!r} is not a name"
        raise ValueError(message)  # noqa: TRY004  (one kind of error for all that a header can get wrong)
    return Piece(global_name, entry["dtype"], shape, _naturals(global_shape), _naturals(offset))


def _naturals(values: list[Any]) -> tuple[int, ...]:
    if len(values) > MAX_DIMS:
        message = f"{len(values)} dimensions are more than a tensor has"
        raise ValueError(message)
    return tuple(map(_natural, values))


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value < MAX_SIZE:
        message = f"{value!r} is not a size"
        raise ValueError(message)
    return value


def _fits(start: int, length: int, whole: int) -> bool:
    return min(start, length) >= 0 and start + length <= whole
