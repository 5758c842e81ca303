"""Amounts of bytes, as people write and read them."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_FORM: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_bytes(text: str) -> int:
    """`96KiB`, `8MiB`, `1.5GiB` or plain bytes; ValueError for anything else."""
    form = _FORM.fullmatch(text.strip())
    if form is None or form[2] not in _UNITS:
        message = f"{text!r} is not a size: expected a number and KiB, MiB or GiB, for example 512MiB"
        raise ValueError(message)
    return int(float(form[1]) * _UNITS[form[2]])


def show_bytes(count: float) -> str:
    """Three digits or so and the largest unit that leaves a whole part."""
    for unit in ("GiB", "MiB", "KiB"):
        if abs(count) >= _UNITS[unit]:
            amount = count / _UNITS[unit]
            return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"
    return f"{count:.0f} B"


def show_seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
