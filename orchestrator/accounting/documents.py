"""Where a run's journal is found, and the lives that it tells of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ...storage.backends.base import Backend
from ...storage.errors import Damaged, NotFound
from ...storage.layout import JOURNAL
from .lives import Life, Line, lives, parse

_READERS: Final = 8
_BESIDE_THE_LOGS: Final = "journal.jsonl"
_NAME: Final = re.compile(r"(?P<incarnation>[0-9a-z]+)-.+\.jsonl")


def read_lives(backend: Backend) -> list[Life]:
    """Of all launchers that have written anything, in the order in which they began; empty where none has."""
    return [life for life in lives(_documents(backend)) if life.last_at]


def _documents(backend: Backend) -> Iterable[tuple[str, list[Line]]]:
    """The lines of each file of the journal with the incarnation that wrote it."""
    keys = [entry.key for entry in backend.list(JOURNAL) if _NAME.fullmatch(entry.key.removeprefix(JOURNAL))]
    if not keys:
        return _beside_the_logs(backend)
    with ThreadPoolExecutor(_READERS) as readers:
        documents = list(readers.map(lambda key: _read(backend, key), keys))
    return [
        (key.removeprefix(JOURNAL).partition("-")[0], parse(document))
        for key, document in zip(keys, documents, strict=True)
    ]


def _beside_the_logs(backend: Backend) -> list[tuple[str, list[Line]]]:
    """A script's run has its journal in `--log-dir`: one file for all its lives."""
    by_incarnation: dict[str, list[Line]] = {}
    for line in parse(_read(backend, _BESIDE_THE_LOGS)):
        # Where a host stands in the world was told with its leader's name in place of its own, once.
        if line["event"] != "joined" or "leader" in line:
            by_incarnation.setdefault(str(line.get("incarnation", "")), []).append(line)
    return list(by_incarnation.items())


def _read(backend: Backend, key: str) -> bytes:
    try:
        return backend.read(key)
    except (NotFound, Damaged):  # Gone meanwhile, or a folder in its place.
        return b""
