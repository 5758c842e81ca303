"""Once per host: what is fetched over the network is fetched by one rank, and its neighbours read the same file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from ....storage.backends.open import open_backend
from ..collective import Circle
from ..sharing import this_host
from .agreeing import agreed

_CHUNK_BYTES: Final = 16 << 20


def once_per_host(circle: Circle, fetch: Callable[[], str]) -> str:
    """The path that `fetch` returned on the first rank of this host. A collective; raises as `agreed` does.

    Where a rank cannot open its neighbour's file, it fetches one of its own.
    """
    hosts = circle.exchange(this_host())
    first = hosts.index(hosts[circle.rank])
    paths = circle.exchange(agreed(circle, lambda: fetch() if first == circle.rank else ""))
    path = paths[first]
    return agreed(circle, lambda: path if os.access(path, os.R_OK) else fetch())


def fetch_file(url: str, keep: ExitStack) -> str:
    """A copy of one remote file, which has no name on this host and is gone with `keep`, or with the process.

    Raises:
        StorageError: as the backend does.
    """
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    backend = open_backend(urlunsplit(parts._replace(path=folder)))
    size = backend.size(name)
    copy = keep.enter_context(tempfile.TemporaryFile(prefix="relight-"))  # noqa: SIM115 -- `keep` closes it
    for start in range(0, size, _CHUNK_BYTES):
        copy.write(backend.read(name, start, min(_CHUNK_BYTES, size - start)))
    copy.flush()
    return f"/proc/{os.getpid()}/fd/{copy.fileno()}"
