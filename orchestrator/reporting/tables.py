"""Failures with their causes, and the lives of launchers. On a phone a row becomes a card. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Final

from ..commands.status_view import duration
from .markup import Markup, element
from .story import Failure, Row

MOST_ROWS: Final = 200
_SIGNS: Final = {"finished": "✓", "preempted": "◆", "no word of its end yet": "…"}


def failures(told: Sequence[Failure], zone: tzinfo) -> Markup:
    """The newest first."""
    if not told:
        return element("p", "Nothing failed.", class_="none")
    lines = [_failure(failure, zone) for failure in reversed(told[-MOST_ROWS:])]
    return _table("failures", ("when", "what was first", "where", "kind", "then"), lines, len(told))


def _failure(failure: Failure, zone: tzinfo) -> Markup:
    place = [f"rank {failure.rank}" if failure.rank is not None and failure.rank >= 0 else "", failure.host]
    moment = [
        f"step {failure.step}" if failure.step is not None else "",
        f"attempt {failure.attempt}" if failure.attempt is not None else "",
    ]
    beside = "\n".join(("\nbeside it, not the cause:", *failure.beside)) if failure.beside else ""
    unfolded = element(
        "details",
        element("summary", "traceback" if "Traceback" in failure.details else "details"),
        element("pre", f"{failure.details}{beside}".strip("\n")),
    )
    return element(
        "tr",
        _cell("when", _when(failure.at, zone)),
        _cell("what was first", element("code", failure.what), unfolded if failure.details or beside else None),
        _cell(
            "where",
            element("span", " on ".join(filter(None, place))),
            element("small", ", ".join(filter(None, moment))),
        ),
        _cell("kind", element("span", f"▼ {failure.kind}", class_="kind")),
        _cell("then", failure.decision or "—"),
    )


def lives(told: Sequence[Row], zone: tzinfo) -> Markup:
    if not told:
        return element("p", "No launcher has written a journal.", class_="none")
    lines = [_life(row, zone) for row in told[-MOST_ROWS:]]
    return _table(
        "lives", ("began", "lived", "host", "steps", "starts", "failures", "goodput", "ended"), lines, len(told)
    )


def _life(row: Row, zone: tzinfo) -> Markup:
    known = row.from_step is not None and row.to_step is not None
    return element(
        "tr",
        _cell("began", _when(row.began_at, zone)),
        _cell("lived", duration(max(0.0, row.ended_at - row.began_at))),
        _cell("host", row.host, element("small", row.incarnation)),
        _cell("steps", f"{row.from_step} to {row.to_step}" if known else "—"),
        _cell("starts", str(row.attempts)),
        _cell("failures", str(row.failures)),
        _cell("goodput", "—" if row.goodput is None else f"{row.goodput:.1%}"),
        _cell("ended", f"{_SIGNS.get(row.how, '▼')} {row.how}"),
    )


def _table(name: str, heads: Sequence[str], lines: Sequence[Markup], count: int) -> Markup:
    left_out = f"The last {len(lines)} of {count}." if count > len(lines) else None
    return element(
        "div",
        element("p", left_out, class_="none") if left_out else None,
        element(
            "table",
            element("thead", element("tr", *(element("th", head, scope="col") for head in heads))),
            element("tbody", *lines),
            class_="cards",
        ),
        id=name,
    )


def _cell(label: str, *children: str | None) -> Markup:
    return element("td", element("div", *children), data_label=label)


def _when(at: float, zone: tzinfo) -> Markup:
    moment = datetime.fromtimestamp(at, zone)
    return element("time", f"{moment:%d %b %H:%M:%S}", datetime=moment.isoformat(timespec="seconds"))
