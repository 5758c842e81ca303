"""The zip that torch.load reads: a pickle and the bytes of its storages, streamed record by record.

The format is torch's (https://docs.pytorch.org/docs/stable/notes/serialization.html): in `data.pkl` storages are
persistent ids, the bytes of storage N are the record `data/N`, stored as they are and aligned.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ALIGNMENT: Final = 64
_HEADER: Final = 30
"""Bytes of a zip's local header before the name."""
_ZIP64: Final = 20
"""Bytes that zipfile adds to the header of a file that may not fit 32 bits."""
_LARGE: Final = 1 << 30
"""From here on the header has room for 64 bits: zipfile itself would begin a little before 2 GiB."""
_PADDING: Final = 0x4246
"""The tag of the extra field that torch pads with."""
_FOLDER: Final = "archive"

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Storage:
    """So many bytes, in stretches that are asked for when it is their turn."""

    size: int
    parts: Iterable[Buffer]


def write_archive(path: Path, pickled: Buffer, storages: Iterable[Storage]) -> None:
    """Raises OSError."""
    view = memoryview(pickled)
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.pkl", Storage(view.nbytes, [view]))
        _add(archive, "byteorder", Storage(6, [b"little"]))
        for number, storage in enumerate(storages):
            _add(archive, f"data/{number}", storage)
        _add(archive, "version", Storage(2, [b"3\n"]))


def _add(archive: zipfile.ZipFile, name: str, storage: Storage) -> None:
    record = zipfile.ZipInfo(f"{_FOLDER}/{name}")
    record.file_size = storage.size
    is_large = storage.size >= _LARGE
    assert archive.fp is not None
    start = archive.fp.tell() + _HEADER + len(record.filename) + 4 + (_ZIP64 if is_large else 0)
    padding = -start % _ALIGNMENT
    record.extra = struct.pack("<HH", _PADDING, padding) + b"Z" * padding
    with archive.open(record, "w", force_zip64=is_large) as file:
        for part in storage.parts:
            file.write(part)
