"""What a person sees while a run trains: a bar on a terminal, a plain line now and then anywhere else.

Only rank 0 shows anything. A loss is looked at no more than twice a second, for on a GPU each look waits for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from torch import Tensor

_BAR_EVERY_S: Final = 0.5
_LINE_EVERY_S: Final = 10.0

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Moment:
    """One finished step."""

    epoch: int
    """Counted from 0; people are shown from 1."""
    step: int
    """Steps finished since the run began, over all its lives."""
    loss: Tensor | float
    samples: int
    """Global samples in this step."""


class Display(Protocol):
    """Where progress goes. Cheap enough to be told of every step."""

    def step(self, moment: Moment) -> None: ...

    def say(self, line: str) -> None:
        """A line that stays, whatever the bar does."""

    def close(self) -> None:
        """The last moment is shown, and the terminal is the user's again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole way: what the display counts against."""

    epochs: int
    total_steps: int
    first_step: int
    """Steps that earlier lives of the run have done."""


def open_display(rank: int, plan: Plan, *, stream: TextIO | None = None, clock: Clock = time.monotonic) -> Display:
    """The display that fits `stream` (standard error unless given): `Bar`, `Lines`, or `Silent` beyond rank 0."""
    stream = stream or sys.stderr
    if rank != 0:
        return Silent()
    console = Console(file=stream, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bar(console, plan, clock)
    return Lines(stream, plan, clock)


class Silent:
    def step(self, moment: Moment) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Pace:
    """Decides when to show the next moment, and knows the rate since the last one shown."""

    def __init__(self, every_s: float, clock: Clock) -> None:
        self._every_s = every_s
        self._clock = clock
        self._since = clock()
        self._samples = 0
        self.last: Moment | None = None

    def due(self, moment: Moment) -> bool:
        self.last = moment
        self._samples += moment.samples
        return self._clock() - self._since >= self._every_s

    @property
    def pending(self) -> bool:
        """Steps have finished since the last look."""
        return self._samples > 0

    def rate(self) -> float:
        """Samples per second since the last look; a look begins a new interval."""
        now = self._clock()
        rate = self._samples / max(now - self._since, 1e-9)
        self._since, self._samples = now, 0
        return rate


class Lines:
    """A line every ten seconds, and one for the last step."""

    def __init__(self, stream: TextIO, plan: Plan, clock: Clock) -> None:
        self._stream = stream
        self._plan = plan
        self._pace = _Pace(_LINE_EVERY_S, clock)

    def step(self, moment: Moment) -> None:
        if self._pace.due(moment):
            self._show(moment)

    def say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def close(self) -> None:
        if self._pace.pending and self._pace.last:
            self._show(self._pace.last)

    def _show(self, moment: Moment) -> None:
        plan = self._plan
        self.say(
            f"epoch {moment.epoch + 1}/{plan.epochs}  step {moment.step}/{plan.total_steps}  "
            f"loss {float(moment.loss):.4f}  {self._pace.rate():.0f} samples/s"
        )


class Bar:
    """A progress bar with epoch, step, loss, samples per second and the time left."""

    def __init__(self, console: Console, plan: Plan, clock: Clock) -> None:
        self._console = console
        self._plan = plan
        self._pace = _Pace(_BAR_EVERY_S, clock)
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[rate]} samples/s"),
            TimeRemainingColumn(),
            console=console,
            get_time=clock,
            # Refreshed from step() alone: a refresh thread may hold a lock when a loader worker is forked.
            auto_refresh=False,
        )
        self._task = self._progress.add_task(
            "", total=plan.total_steps, completed=plan.first_step, epoch=f"-/{plan.epochs}", loss="-", rate="-"
        )
        self._progress.start()

    def step(self, moment: Moment) -> None:
        if self._pace.due(moment):
            self._show(moment)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        if self._pace.pending and self._pace.last:
            self._show(self._pace.last)
        self._progress.stop()

    def _show(self, moment: Moment) -> None:
        self._progress.update(
            self._task,
            completed=moment.step,
            epoch=f"{moment.epoch + 1}/{self._plan.epochs}",
            loss=f"{float(moment.loss):.4f}",
            rate=f"{self._pace.rate():.0f}",
            refresh=True,
        )
