"""The user's own word on a failure: the first of `restart.rules` whose pattern is found in what it left. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from .failures import Failure, FailureClass

TAIL_BYTES: Final = 1 << 16
"""How much of each log file is looked at, from its end."""
_LINE_CHARACTERS: Final = 4000


class Then(Enum):
    STOP = "stop"
    RETRY = "retry"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class Rule:
    match: re.Pattern[str]
    then: Then

    def __str__(self) -> str:
        return f"the rule `{self.match.pattern}: {self.then.value}`"


def first_match(rules: Sequence[Rule], failure: Failure, tails: Iterable[str] = ()) -> Rule | None:
    """Line by line over the one-line account, the message, the traceback and the ends of the log files.

    A run that was told to stop has not failed, and no rule is asked.
    """
    if failure.kind is FailureClass.PREEMPTED or not rules:
        return None
    lines = _lines([failure.what, failure.message, failure.details, *tails])
    return next((rule for rule in rules if any(rule.match.search(line) for line in lines)), None)


def _lines(texts: Iterable[str]) -> list[str]:
    """Each once, and bounded: a pattern that goes back and forth takes the square of a line's length, or worse."""
    return list(dict.fromkeys(line[:_LINE_CHARACTERS] for text in texts for line in text.splitlines()))
