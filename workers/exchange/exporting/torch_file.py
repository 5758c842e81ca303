"""Any object as `torch.save` writes it, of tensors that need not be in memory."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 -- writing only; it is what torch's format is made of
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import torch

from .archive import Storage, write_archive
from .blanks import Blanks

_PROTOCOL: Final = 2
"""torch's own."""

Chunks = Callable[[str], Iterable[memoryview]]
"""What is stored under a name, in stretches."""


class NotPickled(Exception):
    """Something in the object cannot be pickled; the message says what."""


class StillMeta(Exception):
    """There is a tensor on the meta device in it, which has no values."""


class TorchFile:
    """What `torch.save` would write of `value`, all but the tensors' bytes known. Raises NotPickled, StillMeta."""

    def __init__(self, value: Any) -> None:
        pickled = io.BytesIO()
        pickler = _Pickler(pickled)
        try:
            pickler.dump(value)
        except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
            raise NotPickled(str(error)) from None
        self._pickled = pickled.getvalue()
        self._storages = pickler.storages

    def write(self, path: Path, blanks: Blanks, chunks: Chunks) -> None:
        """Write it, with what is stored in the place of `blanks`. Raises OSError."""
        write_archive(path, self._pickled, (_bytes_of(storage, blanks, chunks) for storage in self._storages))


class _Pickler(pickle.Pickler):
    """Leaves storages out, as torch's own does, and keeps them in the order of their numbers."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=_PROTOCOL)
        self.storages: list[torch.UntypedStorage] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> tuple[str, Any, str, str, int] | None:
        if isinstance(obj, torch.Tensor) and obj.is_meta:
            raise StillMeta
        if isinstance(obj, torch.storage.TypedStorage):
            # What its public methods say they warn of, although every tensor is pickled by way of it.
            kind = getattr(torch, obj._pickle_storage_type())  # noqa: SLF001
            return ("storage", kind, self._key(obj._untyped_storage), "cpu", obj._size())  # noqa: SLF001
        if isinstance(obj, torch.UntypedStorage):
            return ("storage", torch.UntypedStorage, self._key(obj), "cpu", obj.nbytes())
        return None

    def _key(self, storage: torch.UntypedStorage) -> str:
        """Tensors that share their memory share a record. What has none is a record each time."""
        address = storage.data_ptr()
        number = self._numbers.get(address) if address else None
        if number is None:
            number = self._numbers[address] = len(self.storages)
            self.storages.append(storage)
        return str(number)


def _bytes_of(storage: torch.UntypedStorage, blanks: Blanks, chunks: Chunks) -> Storage:
    name = blanks.name_of(storage.data_ptr())
    return Storage(storage.nbytes(), _in_memory(storage) if name is None else chunks(name))


def _in_memory(storage: torch.UntypedStorage) -> Iterator[memoryview]:
    if storage.nbytes():
        yield torch.empty(0, dtype=torch.uint8).set_(storage.cpu()).numpy().data
