"""How often: after so many steps, or after so much time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Self

from pydantic_core import CoreSchema, core_schema

_FORM: Final = re.compile(r"(?P<amount>\d{1,12}(\.\d{1,30})?)(?P<unit>[smh]?)")
_UNIT_S: Final = {"h": 3600, "m": 60, "s": 1}
_EXPECTED: Final = 'expected steps (50) or a time ("30s", "5m", "1.5h"), greater than 0'


@dataclass(frozen=True, slots=True)
class Every:
    """An interval in steps or in seconds; exactly one of the two is set, and it is greater than 0."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, value: object) -> Self:
        """`50`, `"50"`, `"30s"`, `"5m"`, `"1.5h"`; anything else raises ValueError that lists these forms."""
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        form = _FORM.fullmatch(text) if isinstance(text, str) else None
        if form is None:
            raise ValueError(_EXPECTED)
        amount, unit = float(form["amount"]), form["unit"]
        if amount == 0 or not (unit or amount.is_integer()):
            raise ValueError(_EXPECTED)
        return cls(seconds=amount * _UNIT_S[unit]) if unit else cls(steps=int(amount))

    def __str__(self) -> str:
        """The shortest form that parses back to the same interval."""
        if self.seconds is None:
            return str(self.steps)
        for unit, unit_s in _UNIT_S.items():
            if math.fmod(self.seconds, unit_s) == 0:
                return f"{self.seconds / unit_s:.0f}{unit}"
        return f"{Decimal(repr(self.seconds)):f}s"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(value),
            serialization=core_schema.to_string_ser_schema(),
        )
