"""What happened and what was decided, one JSON line an event: beside the logs, and in the run's storage.

The run goes on whatever happens to its journal: the storage is written by a thread of its own, the last state wins,
and trouble is said once.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

_CLOSE_DEADLINE_S: Final = 5.0
"""How long the end of a run waits for its last lines to be stored."""


class Store(Protocol):
    """The part of a storage backend that a journal needs."""

    def put(self, key: str, data: bytes, *, overwrite: bool = False) -> object: ...


class Journal:
    """Records events. `local` is a file that is appended to; `warn` is told, once, that the storage refuses.

    `refusals` are the exceptions by which the storage says that it cannot.
    """

    def __init__(
        self,
        incarnation: str,
        *,
        store: Store | None = None,
        local: Path | None = None,
        warn: Callable[[str], None] = lambda _: None,
        refusals: tuple[type[Exception], ...] = (OSError,),
    ) -> None:
        self._incarnation = incarnation
        self._host = socket.gethostname()
        self._store = store
        self._local = local
        self._warn = warn
        self._refusals = refusals
        self._lines: list[bytes] = []
        self._news = threading.Condition()
        self._closing = False
        self._keeper = threading.Thread(target=self._keep, name="journal", daemon=True)
        if store is not None:
            self._keeper.start()

    @property
    def key(self) -> str:
        return f"journal/{self._incarnation}-{self._host}.jsonl"

    def record(self, event: str, **facts: Any) -> None:
        """Add one line. `facts` are plain values; an `at` among them is when it happened, if that was not now.

        Never blocks on the storage and never raises for its sake.
        """
        where = {"at": round(time.time(), 3), "host": self._host, "incarnation": self._incarnation}
        line = json.dumps({"event": event, **where, **facts}).encode() + b"\n"
        with self._news:
            self._lines.append(line)
            self._news.notify()
        if self._local is not None:
            try:
                with self._local.open("ab") as file:
                    file.write(line)
            except OSError as error:
                self._warn(f"the journal is not written to {self._local}: {error}")
                self._local = None

    def close(self) -> None:
        """Give the last lines a bounded time to be stored."""
        with self._news:
            self._closing = True
            self._news.notify()
        if self._store is not None:
            self._keeper.join(_CLOSE_DEADLINE_S)

    def _keep(self) -> None:
        stored = 0
        warned = False
        while True:
            with self._news:
                self._news.wait_for(lambda seen=stored: self._closing or len(self._lines) > seen)  # type: ignore[misc]
                lines = list(self._lines)
                last = self._closing
            if len(lines) > stored:
                refusal = self._put(b"".join(lines))
                if refusal is not None and not warned:
                    warned = True
                    self._warn(f"the journal cannot be stored, the run goes on without it: {refusal}")
                stored = len(lines)
            if last:
                return

    def _put(self, document: bytes) -> Exception | None:
        assert self._store is not None
        try:
            self._store.put(self.key, document, overwrite=True)
        except self._refusals as refusal:
            return refusal
        return None
