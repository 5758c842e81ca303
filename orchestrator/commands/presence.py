"""Who works on a run now, as far as that can be seen from here. No torch."""

from __future__ import annotations

from typing import Any, Final

from ...storage import living
from ...storage.backends.base import Backend
from ...storage.errors import NotFound
from ..scratch import announcements
from .status import status_at

Facts = dict[str, Any]

_SETTLED_S: Final = 3600.0


def at_work(backend: Backend, now: float) -> str:
    """In words; empty when nobody is seen. `now` is the wall clock's time.

    A launcher on this host is known by its lock, one elsewhere by its journal, which is not older than half a minute.
    A script under torchrun on another host leaves neither, and is not seen.
    """
    for launcher in announcements():
        if launcher.url == backend.url:
            return f"a launcher (process {launcher.pid} on this host) is working on it"
    if living.everyone(backend.url):
        return "checkpoints of it are being written by processes on this host"
    facts = _journal(backend, now)
    if facts is not None and facts["state"] == "running":
        return "its journal says that a launcher is working on it"
    return ""


def ended_generation(backend: Backend, now: float) -> int | None:
    """The generation of the newest launcher when that has ended, and long enough ago: nobody of it writes any more.

    Not as soon as it has: what a dead worker has staged is still written, on whatever host, until its save's deadline.
    """
    facts = _journal(backend, now)
    if facts is None or facts["state"] in {"running", "silent"} or facts["heard_s_ago"] < _SETTLED_S:
        return None
    generation = facts["generation"]
    return generation if isinstance(generation, int) and not at_work(backend, now) else None


def _journal(backend: Backend, now: float) -> Facts | None:
    try:
        return status_at(backend, now)
    except NotFound:
        return None
