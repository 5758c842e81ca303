"""How far a long command is: lines for a log, a bar for a person, nothing for a script."""

from __future__ import annotations

import contextlib
import os
import pty
import sys
import threading

import pytest

from relight.orchestrator.commands.progress import Lines, line, progress
from relight.orchestrator.commands.sizes import size_text

GIB = 1 << 30


@pytest.mark.parametrize(
    ("done", "total", "seconds", "said"),
    [
        (GIB, 4 * GIB, 2.0, "verify: 1.0 GiB of 4.0 GiB (25%), 512.0 MiB/s, 6 s left"),
        (0, 4 * GIB, 10.0, "verify: 0 B of 4.0 GiB (0%), 0 B/s"),
        (10, 0, 1.0, "verify: 10 B of 0 B, 10 B/s, 0 s left"),
        (5, 4, 0.0, "verify: 5 B of 4 B (125%), 0 B/s"),
    ],
)
def test_a_line_says_how_much_how_fast_and_how_long(done: int, total: int, seconds: float, said: str) -> None:
    assert line("verify", done, total, seconds) == said


def test_a_log_gets_a_line_every_ten_seconds_and_none_for_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = Lines("cp", 4 * GIB, lambda: now[0])
    for second in range(1, 26):
        now[0] = float(second)
        lines.advance(GIB // 8)
    assert capsys.readouterr().err.splitlines() == [
        "relight: cp: 1.2 GiB of 4.0 GiB (31%), 128.0 MiB/s, 22 s left",
        "relight: cp: 2.5 GiB of 4.0 GiB (62%), 128.0 MiB/s, 12 s left",
    ]


def test_threads_count_together(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("cp", 8000, lambda: 0.0)

    def count() -> None:
        for _ in range(1000):
            lines.advance(1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines._done == 8000
    assert capsys.readouterr().err == ""


def test_a_script_is_told_nothing_and_what_is_not_shown_is_not_counted_up(capsys: pytest.CaptureFixture[str]) -> None:
    def never() -> int:
        raise AssertionError

    with progress("verify", never, quiet=True) as advance:
        advance(10)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = pty.openpty()
    with open(follower, "w", closefd=True) as terminal:  # noqa: PTH123 -- a descriptor
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        with progress("verify", 4 * GIB) as advance:
            advance(GIB)
    shown = _all_of(leader)
    assert "verify" in shown
    assert "1.0/4.0 GiB" in shown


def _all_of(leader: int) -> str:
    """What was written to a terminal that is closed now; it comes in pieces, and ends with an error."""
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(leader, 1 << 16):
            shown += part
    os.close(leader)
    return shown.decode()


@pytest.mark.parametrize(("count", "said"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * GIB, "3.0 GiB")])
def test_sizes_are_in_binary_units(count: int, said: str) -> None:
    assert size_text(count) == said
