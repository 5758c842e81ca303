"""What happened and what was decided, one JSON line an event: beside the logs, and in the run's storage.

The run goes on whatever happens to its journal: the storage is written by a thread of its own, at most once a second,
and trouble is said once. There the lines are kept in parts of bounded size, so that a long run's journal is not written
again and again: `journal/INCARNATION-HOST-00000.jsonl`, `-00001`, ... Beside them `journal/INCARNATION-HOST-now.jsonl`
is one line that says how things are now.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from ..storage.layout import JOURNAL

PART_BYTES: Final = 64 * 1024
"""A part that has reached this size is complete, and written no more."""
_MOST_PARTS: Final = 256
"""So many are kept in memory for a storage that is out of reach; then the oldest are given up."""
_PACE_S: Final = 1.0
_PACE_IN_TROUBLE_S: Final = 10.0
_CLOSE_DEADLINE_S: Final = 5.0
"""How long the end of a run waits for its last lines to be stored."""


class Store(Protocol):
    """The part of a storage backend that a journal needs."""

    @property
    def url(self) -> str: ...

    def put(self, key: str, data: bytes, *, overwrite: bool = False) -> object: ...


class Parts:
    """What is to be stored: documents of bounded size under their keys. Says what is due; stores nothing itself."""

    def __init__(self, stem: str) -> None:
        self._stem = stem
        self._number = 0
        self._open = bytearray()
        self._due: dict[str, bytes | bytearray] = {}

    @property
    def key(self) -> str:
        """Where the next line goes."""
        return f"{self._stem}-{self._number:05d}.jsonl"

    @property
    def any_due(self) -> bool:
        return bool(self._due)

    def add(self, line: bytes) -> None:
        self._open += line
        self._due[self.key] = self._open
        if len(self._open) >= PART_BYTES:
            self._open = bytearray()
            self._number += 1
            self._give_up_the_oldest()

    def show(self, line: bytes) -> None:
        self._due[f"{self._stem}-now.jsonl"] = line

    def take(self) -> list[tuple[str, bytes]]:
        """Every document that has changed since it was last taken."""
        documents = [(key, bytes(document)) for key, document in self._due.items()]
        self._due.clear()
        return documents

    def give_back(self, documents: list[tuple[str, bytes]]) -> None:
        """They could not be stored, and are due again, unless they have grown since."""
        for key, document in documents:
            self._due.setdefault(key, document)
        self._give_up_the_oldest()

    def _give_up_the_oldest(self) -> None:
        for key in sorted(self._due)[:-_MOST_PARTS]:
            del self._due[key]


class Journal:
    """Records events. `local` is a file that is appended to; `warn` is told, once, that the storage refuses.

    `refusals` are the exceptions by which the storage says that it cannot. `heard` is told of each recorded line.
    """

    def __init__(
        self,
        incarnation: str,
        *,
        store: Store | None = None,
        local: Path | None = None,
        warn: Callable[[str], None] = lambda _: None,
        refusals: tuple[type[Exception], ...] = (OSError,),
        heard: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._incarnation = incarnation
        self._host = socket.gethostname()
        self._store = store
        self._local = local
        self._warn = warn
        self._refusals = refusals
        self._heard = heard
        self._parts = Parts(f"{JOURNAL}{incarnation}-{self._host}")
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="journal", daemon=True)
        if store is not None:
            self._keeper.start()

    def keep_in(self, store: Store) -> None:
        """From now on there too, with all that was recorded before; the first store is the one that counts.

        Where a script's run lives is known once its workers have told it.
        """
        if self._store is None:
            self._store = store
            self._keeper.start()

    @property
    def place(self) -> str:
        """Where a person finds the newest lines; empty: they are kept nowhere."""
        if self._local is not None:
            return str(self._local)
        return f"{self._store.url}/{self._parts.key}" if self._store is not None else ""

    def record(self, event: str, **facts: Any) -> None:
        """Add one line. `facts` are plain values; an `at` among them is when it happened, if that was not now.

        Never blocks on the storage and never raises for its sake.
        """
        document = self._document(event, facts)
        line = _line(document)
        with self._news:
            self._parts.add(line)  # Without a store, too: there may be one later.
            self._news.notify()
        if self._local is not None:
            try:
                with self._local.open("ab") as file:
                    file.write(line)
            except OSError as error:
                self._warn(f"the journal is not written to {self._local}: {error}")
                self._local = None
        self._heard(document)

    def show(self, event: str, **facts: Any) -> None:
        """How things are now: takes the place of what was shown before, and is no line of the journal."""
        with self._news:
            self._parts.show(_line(self._document(event, facts)))
            self._news.notify()

    def close(self) -> None:
        """Give the last lines a bounded time to be stored."""
        self._closing.set()
        with self._news:
            self._news.notify()
        if self._store is not None:
            self._keeper.join(_CLOSE_DEADLINE_S)

    def _document(self, event: str, facts: dict[str, Any]) -> dict[str, Any]:
        where = {"at": round(time.time(), 3), "host": self._host, "incarnation": self._incarnation}
        return {"event": event, **where, **facts}

    def _keep(self) -> None:
        warned = False
        while True:
            with self._news:
                self._news.wait_for(lambda: self._parts.any_due or self._closing.is_set())
                last = self._closing.is_set()
                due = self._parts.take()
            refusal = self._put(due)
            if refusal is not None and not warned:
                warned = True
                self._warn(f"the journal cannot be stored, the run goes on without it: {refusal}")
            if last:
                return
            # What comes in the meantime is stored together.
            self._closing.wait(_PACE_S if refusal is None else _PACE_IN_TROUBLE_S)

    def _put(self, documents: list[tuple[str, bytes]]) -> Exception | None:
        assert self._store is not None
        for number, (key, document) in enumerate(documents):
            try:
                self._store.put(key, document, overwrite=True)
            except self._refusals as refusal:
                with self._news:
                    self._parts.give_back(documents[number:])
                return refusal
        return None


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"
