"""Numbers in a journal's lines, which may be anything there. JSON has no infinities: they are spelt out."""

from __future__ import annotations

_SPELT = frozenset({"nan", "inf", "-inf"})


def number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return float(value) if not isinstance(value, str) or value in _SPELT else None


def whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
