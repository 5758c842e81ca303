"""Keeps the books of one launcher's life: hears what the journal hears, sees the beats, and writes down what is booked.

Every ten seconds what is booked takes the place of what was shown before; a line of the journal it becomes every ten
minutes and at the end of each attempt. Over a month of training that is 3 MB.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ...configs.goodput import write_goodput
from ...configs.heartbeat import Beat
from ...configs.protocol import ExitCode
from ..journal import Journal
from .books import HOST_LOST, REGROUPED, Books, Heading

TOLD_EVERY_S: Final = 10.0
KEPT_EVERY_S: Final = 600.0
_FIRST_TOLD_S: Final = 1.0
"""And then after twice as long each time: of a short life something is known too."""
_WELL: Final = frozenset({ExitCode.FINISHED.value, ExitCode.PREEMPTED.value})

Facts = dict[str, Any]


class Bookkeeper:
    """`began_ns` is when the launcher's life began, by `clock`; `scratch`: where workers may read the goodput."""

    def __init__(
        self,
        began_ns: int | None = None,
        *,
        scratch: Path | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock = clock
        self._scratch = scratch
        self._lock = threading.RLock()
        self._books = Books(clock() if began_ns is None else began_ns)
        self._attempt = 0
        self._journal: Journal | None = None
        self._closing = threading.Event()
        self._teller = threading.Thread(target=self._tell, name="books", daemon=True)

    def start(self, journal: Journal) -> None:
        """From now on what is booked goes there."""
        self._journal = journal
        self._teller.start()

    def close(self) -> None:
        self._closing.set()
        if self._teller.is_alive():
            self._teller.join()

    def observe(self, beats: Mapping[int, Beat]) -> None:
        with self._lock:
            self._books.observes(self._clock(), beats)

    def hear(self, line: Mapping[str, Any]) -> None:
        """A line of the journal. Those that end an attempt are followed by what is booked."""
        with self._lock:
            ends = self._enter(line, self._clock())
        if ends is not None and self._journal is not None:
            self._journal.record("booked", ends=ends, **self.facts())

    def _enter(self, line: Mapping[str, Any], now_ns: int) -> str | None:
        """What the line ends, an attempt or a life."""
        books = self._books
        match line["event"]:
            case "launched":
                books.waits(now_ns)
            case "joined":
                self._attempt = line["attempt"]
                books.begins(now_ns)
            case "exited":
                books.ends(now_ns, failed=line["returncode"] not in _WELL)
            case "failed":
                books.fails(now_ns, line["kind"])
            case "decided" if line["decision"] == "Restart":
                books.waits(now_ns)
                return "attempt"
            case "regrouped":
                books.regroups(now_ns, _kind_of_regroup(line))
                return "attempt"
            case "ended":
                books.closes(now_ns)
                return "life"
        return None

    def facts(self) -> Facts:
        """Everything that is booked until now, in seconds."""
        with self._lock:
            books = self._books
            books.until(self._clock())
            return {
                "attempt": self._attempt,
                "doing": books.doing,
                "step": books.step,
                "committed_step": books.committed_step,
                "resumed_step": books.resumed_step,
                "wall_s": _seconds(books.wall_ns),
                "seconds": {str(heading): _seconds(books.booked[heading]) for heading in Heading},
                "evaluation_s": _seconds(books.evaluation_ns),
                "failures": dict(books.failures),
                "restarts": books.restarts,
                "came_back_s": _seconds(books.came_back_ns) if books.came_back_ns is not None else None,
                "lost_by_cause_s": {cause: _seconds(ns) for cause, ns in books.lost_by_cause.items()},
                "steps_redone": books.steps_redone,
            }

    def _tell(self) -> None:
        assert self._journal is not None
        kept_ns, pause_s = self._clock(), _FIRST_TOLD_S
        while not self._closing.wait(pause_s):
            pause_s = min(2 * pause_s, TOLD_EVERY_S)
            facts = self.facts()
            self._journal.show("now", **facts)
            if self._scratch is not None:
                write_goodput(self._scratch, goodput(facts))
            if self._clock() - kept_ns >= KEPT_EVERY_S * 1e9:
                kept_ns = self._clock()
                self._journal.record("progress", **facts)


def _kind_of_regroup(line: Mapping[str, Any]) -> str:
    """What is known of it: the other host's failure, or what it did."""
    return str(line.get("kind") or {"lost": HOST_LOST, "left": "HOST_LEFT"}.get(line.get("cause", ""), REGROUPED))


def goodput(facts: Mapping[str, Any]) -> float:
    """The part of the wall clock that went into steps that stand."""
    productive_s: float = facts["seconds"][Heading.PRODUCTIVE]
    return productive_s / facts["wall_s"] if facts["wall_s"] else 0.0


def process_began_ns() -> int:
    """When this process was started, by the monotonic clock: the interpreter's own start belongs to the launch."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    began_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # Since boot; field 22 of proc(5).
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - began_s
    return time.monotonic_ns() - round(age_s * 1e9)


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e9, 3)
