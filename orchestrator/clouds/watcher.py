"""Asks a cloud again and again whether this machine is to go, and then tells the launcher as a person would."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Final

from ...configs.schema import PreemptionConfig
from .metadata import NoAnswer
from .providers import PROVIDERS, Provider

_SILENCES: Final = 3
"""So many questions in a row without an answer, and the user is told."""


def open_watcher(
    settings: PreemptionConfig, say: Callable[[str], None], record: Callable[..., None]
) -> CloudWatcher | None:
    """One that watches already; None where no cloud is to be asked."""
    if settings.watch is None:
        return None
    watcher = CloudWatcher(PROVIDERS[settings.watch](settings.metadata_url), say, record)
    watcher.start()
    return watcher


class CloudWatcher:
    """A thread, from `start` to `close`. A notice is said, recorded, and delivered as SIGTERM to this process: from
    there on a cloud's notice is every other notice.
    """

    def __init__(self, provider: Provider, say: Callable[[str], None], record: Callable[..., None]) -> None:
        self._provider = provider
        self._say = say
        self._record = record
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cloud", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Without waiting for an answer that is still out: it would be thrown away."""
        self._over.set()

    def _watch(self) -> None:
        silences = 0
        while not self._over.is_set():
            try:
                reason = self._provider.look()
                silences = 0
            except NoAnswer as error:
                reason = None
                silences += 1
                if silences == _SILENCES:
                    self._tell(f"{error}; asking on", "cloud silent", reason=str(error))
            if reason is not None and not self._over.is_set():
                self._tell(reason, "noticed", reason=reason)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._over.wait(self._provider.every_s)

    def _tell(self, line: str, event: str, **facts: Any) -> None:
        self._record(event, source=self._provider.name, **facts)
        self._say(f"{self._provider.name}: {line}")
