"""How this host finds its place in the world of an attempt: alone, or together with others."""

from __future__ import annotations

from .alone import Alone
from .meeting import Meeting, Rendezvous
from .together import Together


def for_meeting(meeting: Meeting, incarnation: str, processes: int, address: str, port: int) -> Rendezvous:
    """`address` and `port` are where the workers' store of a lone host is reached."""
    if not meeting.backend:
        return Alone(incarnation, processes, address=address, port=port)
    return Together(incarnation, processes, meeting)
