"""The body of a request that is sent from where it lies in memory."""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import AsyncIterator
from typing import Final

_SLICE_BYTES: Final = 256 << 10
"""Given to the socket at a time. What it does not take at once is copied: this much for each connection, no more."""


class Body:
    """A stretch of memory: to aiohttp something to iterate over, to botocore a file. Never copied as a whole."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self._data), _SLICE_BYTES):
            yield self._data[start : start + _SLICE_BYTES]

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size: int | None = None) -> memoryview:
        """The next `size` bytes, or all that are left."""
        start = self._position
        self._position = len(self) if size is None or size < 0 else min(start + size, len(self))
        return self._data[start : self._position]

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self)}[whence]
        self._position = min(max(0, base + offset), len(self))
        return self._position


def crc32(data: memoryview) -> str:
    """The checksum of a body, as S3 wants it in a header. zlib lets other threads run while it computes."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
