"""All loggers as one, none of which can stop the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..notices import say
from .logger import Logger, Outcome, RunFacts


class Loggers:
    """Passes every call on to each; one that raises is said so of once, and left out from then on."""

    def __init__(self, loggers: Sequence[Logger], say: Callable[[str], None] = say) -> None:
        self._loggers = list(loggers)
        self._say = say

    def __bool__(self) -> bool:
        return bool(self._loggers)

    def begin(self, run: RunFacts) -> None:
        self._each(lambda logger: logger.begin(run))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self._each(lambda logger: logger.log(step, scalars))

    def end(self, outcome: Outcome) -> None:
        self._each(lambda logger: logger.end(outcome))
        self._loggers.clear()

    def _each(self, call: Callable[[Logger], None]) -> None:
        for logger in list(self._loggers):
            try:
                call(logger)
            except Exception as error:  # noqa: BLE001 -- foreign code; whatever it is, the training goes on
                self._loggers.remove(logger)
                name = type(logger).__name__
                self._say(f"{name} is switched off, the training goes on: {type(error).__name__}: {error}")
