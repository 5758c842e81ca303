"""The pickle of plain containers and of tensors that are stored elsewhere, as torch.load takes it. Free of torch.

What is written is what `torch.save` writes of such values (protocol 2, which weights_only=True asks for): numbers,
text, lists, tuples, dicts, and each tensor as a call of torch's own function that makes it from its storage.
"""

from __future__ import annotations

import pickle as op  # noqa: TID251 -- the names of the operations; nothing is unpickled
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ....storage.shards import ITEM_BYTES, Piece
from .archive import Storage, write_archive

_STORAGES: Final[Mapping[str, str]] = {
    "BOOL": "BoolStorage",
    "U8": "ByteStorage",
    "I8": "CharStorage",
    "I16": "ShortStorage",
    "I32": "IntStorage",
    "I64": "LongStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "F32": "FloatStorage",
    "F64": "DoubleStorage",
    "C64": "ComplexFloatStorage",
}
_LATER_DTYPES: Final[Mapping[str, str]] = {
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
"""Those that came after torch had given up a class of storage for each."""

_SMALL: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class Stored:
    """A whole tensor that is stored under the piece's name."""

    piece: Piece


def stored(pieces: Mapping[str, Piece]) -> dict[str, Stored]:
    return {name: Stored(piece) for name, piece in pieces.items()}


def write_plain(path: Path, value: Any, chunks: Callable[[str], Iterable[memoryview]]) -> None:
    """Write `value` as `torch.save` would, the bytes of what is `Stored` in it from `chunks`. Raises OSError."""
    pickled, pieces = pickle(value)
    write_archive(path, pickled, (Storage(piece.size, chunks(piece.name)) for piece in pieces))


def pickle(value: Any) -> tuple[bytes, list[Piece]]:
    """The pickle, and what is stored, in the order of the numbers that it has there. Pure.

    Raises TypeError for what is none of the plain kinds.
    """
    pickler = _Pickler()
    pickler.save(value)
    return bytes(pickler.written + op.STOP), list(pickler.numbers)


class _Pickler:
    def __init__(self) -> None:
        self.written = bytearray(op.PROTO + b"\x02")
        self.numbers: dict[Piece, int] = {}

    def save(self, value: Any) -> None:
        save = _SAVES.get(type(value))
        if save is None:
            raise TypeError(f"a {type(value).__qualname__} is not pickled here")
        save(self, value)

    def _constant(self, value: bool | None) -> None:  # noqa: FBT001 -- it is what is written
        self.written += op.NONE if value is None else op.NEWTRUE if value else op.NEWFALSE

    def _int(self, value: int) -> None:
        if -_SMALL <= value < _SMALL:
            self.written += op.BININT + struct.pack("<i", value)
        else:
            encoded = op.encode_long(value)
            self.written += op.LONG1 + bytes([len(encoded)]) + encoded

    def _float(self, value: float) -> None:
        self.written += op.BINFLOAT + struct.pack(">d", value)

    def _str(self, value: str) -> None:
        encoded = value.encode("utf-8", "surrogatepass")
        self.written += op.BINUNICODE + struct.pack("<I", len(encoded)) + encoded

    def _list(self, value: list[Any]) -> None:
        self.written += op.EMPTY_LIST + op.MARK
        for item in value:
            self.save(item)
        self.written += op.APPENDS

    def _tuple(self, value: tuple[Any, ...]) -> None:
        self.written += op.MARK
        for item in value:
            self.save(item)
        self.written += op.TUPLE

    def _dict(self, value: Mapping[Any, Any]) -> None:
        self.written += op.EMPTY_DICT + op.MARK
        for key, item in value.items():
            self.save(key)
            self.save(item)
        self.written += op.SETITEMS

    def _counter(self, value: Counter[Any]) -> None:
        self._global("collections", "Counter")
        self.save((dict(value),))
        self.written += op.REDUCE

    def _stored(self, value: Stored) -> None:
        piece = value.piece
        later = _LATER_DTYPES.get(piece.dtype)
        self._global("torch._utils", "_rebuild_tensor_v2" if later is None else "_rebuild_tensor_v3")
        self.written += op.MARK
        self._storage(piece)
        for argument in (0, piece.shape, _strides(piece.shape), False):
            self.save(argument)
        self._global("collections", "OrderedDict")  # Of hooks, of which there are none.
        self.written += op.EMPTY_TUPLE + op.REDUCE
        if later is not None:
            self._global("torch", later)
        self.written += op.TUPLE + op.REDUCE

    def _storage(self, piece: Piece) -> None:
        kind = _STORAGES.get(piece.dtype)
        number = self.numbers.setdefault(piece, len(self.numbers))
        self.written += op.MARK
        self.save("storage")
        self._global(*(("torch.storage", "UntypedStorage") if kind is None else ("torch", kind)))
        for item in (str(number), "cpu", piece.size if kind is None else piece.size // ITEM_BYTES[piece.dtype]):
            self.save(item)
        self.written += op.TUPLE + op.BINPERSID

    def _global(self, module: str, name: str) -> None:
        self.written += op.GLOBAL + f"{module}\n{name}\n".encode()


_SAVES: Final[Mapping[type, Callable[[_Pickler, Any], None]]] = {
    type(None): _Pickler._constant,  # noqa: SLF001 -- its own table
    bool: _Pickler._constant,  # noqa: SLF001
    int: _Pickler._int,  # noqa: SLF001
    float: _Pickler._float,  # noqa: SLF001
    str: _Pickler._str,  # noqa: SLF001
    list: _Pickler._list,  # noqa: SLF001
    tuple: _Pickler._tuple,  # noqa: SLF001
    dict: _Pickler._dict,  # noqa: SLF001
    Counter: _Pickler._counter,  # noqa: SLF001
    Stored: _Pickler._stored,  # noqa: SLF001
}


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major, with torch's way of counting dimensions without elements."""
    found = []
    step = 1
    for length in reversed(shape):
        found.append(step)
        step *= max(length, 1)
    return tuple(reversed(found))
