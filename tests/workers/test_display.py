"""What a person sees: how often, and what it says."""

from __future__ import annotations

import io
import os

from rich.console import Console

from relight.workers.display import Bar, Lines, Moment, Plan, Silent, open_display

PLAN = Plan(epochs=3, total_steps=300, first_step=100)


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class Loss(float):
    """Counts how often somebody looks."""

    looks = 0

    def __float__(self) -> float:
        Loss.looks += 1
        return super().__float__()


def moment(step: int, loss: float = 0.25) -> Moment:
    return Moment(epoch=1, step=step, loss=loss, samples=64)


def lines() -> tuple[Lines, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    display = open_display(0, PLAN, stream=stream, clock=clock)
    assert isinstance(display, Lines)
    return display, stream, clock


def bar() -> tuple[Bar, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return Bar(Console(file=stream, force_terminal=True, width=120, highlight=False), PLAN, clock), stream, clock


def test_off_a_terminal_there_is_a_line_every_ten_seconds_with_the_rate_since_the_last() -> None:
    display, stream, clock = lines()
    for step in range(101, 141):
        clock.now += 0.5
        display.step(moment(step))
    assert stream.getvalue() == (
        "epoch 2/3  step 120/300  loss 0.2500  128 samples/s\nepoch 2/3  step 140/300  loss 0.2500  128 samples/s\n"
    )


def test_the_last_step_gets_a_line_of_its_own_unless_it_has_one() -> None:
    display, stream, clock = lines()
    clock.now += 2
    display.step(moment(101))
    display.close()
    display.close()
    assert stream.getvalue() == "epoch 2/3  step 101/300  loss 0.2500  32 samples/s\n"


def test_a_run_without_a_step_closes_without_a_word() -> None:
    display, stream, _ = lines()
    display.close()
    assert stream.getvalue() == ""


def test_what_is_said_stays() -> None:
    display, stream, _ = lines()
    display.say("resumed from step 100")
    assert stream.getvalue() == "resumed from step 100\n"


def test_a_loss_is_looked_at_no_more_than_twice_a_second() -> None:
    display, _, clock = bar()
    Loss.looks = 0
    for step in range(1000):
        clock.now += 0.01
        display.step(moment(step, Loss(0.5)))
    assert 0 < Loss.looks <= 20


def test_the_bar_shows_epoch_step_loss_rate_and_the_time_left() -> None:
    display, stream, clock = bar()
    for step in range(101, 201):
        clock.now += 0.5
        display.step(moment(step))
    display.say("[validated] 97%")
    display.close()
    shown = stream.getvalue()
    assert "epoch 2/3" in shown
    assert "200/300" in shown
    assert "loss 0.2500  128 samples/s" in shown
    assert "0:00:50" in shown
    assert "[validated] 97%" in shown


def test_a_terminal_gets_the_bar_and_other_ranks_get_nothing() -> None:
    controller, terminal = os.openpty()
    environment = os.environ.copy()
    os.environ["TERM"] = "xterm"
    try:
        with os.fdopen(terminal, "w") as stream:
            display = open_display(0, PLAN, stream=stream)
            assert isinstance(display, Bar)
            display.close()
            assert isinstance(open_display(1, PLAN, stream=stream), Silent)
    finally:
        os.environ.clear()
        os.environ.update(environment)
        os.close(controller)


def test_silence_is_a_display_too() -> None:
    display = open_display(1, PLAN)
    display.step(moment(1))
    display.say("nothing")
    display.close()
