"""What workers tell is in the journal while they run, and takes little room there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relight.configs.events import Events, events_path
from relight.orchestrator.hearing import Hearing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_points_are_gathered_into_one_line_and_everything_else_is_told_as_it_was(tmp_path: Path) -> None:
    recorded: list[dict[str, Any]] = []
    stores: list[str] = []
    clock = Clock()
    hearing = Hearing(tmp_path, lambda event, **facts: recorded.append({"event": event, **facts}), stores.append, clock)
    events = Events(tmp_path, 0)
    events.tell("resumed", at=1.0, step=0, url="/runs/x")
    for step in (1, 2, 3):
        events.tell("point", at=1.0 + step, step=step, loss=0.5)
    events.tell("saved", at=5.0, step=3)
    hearing.listen()
    assert recorded == [], "not at every look"
    clock.now = 1.0
    hearing.listen()
    assert recorded == [
        {"event": "resumed", "at": 1.0, "rank": 0, "step": 0, "url": "/runs/x"},
        {"event": "saved", "at": 5.0, "rank": 0, "step": 3},
        {"event": "points", "points": [[2.0, 1, 0.5], [3.0, 2, 0.5], [4.0, 3, 0.5]]},
    ]
    assert stores == ["/runs/x"]
    events.tell("stores", url="/runs/y")  # As the first rank of another host does.
    clock.now = 60.0
    hearing.listen()
    assert stores == ["/runs/x", "/runs/y"]
    assert len(recorded) == 3, "nothing twice"


def test_a_line_that_is_half_written_is_heard_when_it_is_whole(tmp_path: Path) -> None:
    recorded: list[Any] = []
    hearing = Hearing(tmp_path, lambda event, **facts: recorded.append((event, facts["step"])))
    Events(tmp_path, 0).tell("saved", step=1)
    with events_path(tmp_path, 0).open("a") as file:
        file.write('{"event": "saved", "at": 9.0, ')
        file.flush()
        hearing.take()
        assert recorded == [("saved", 1)]
        file.write('"step": 2}\n')
    hearing.take()
    assert recorded == [("saved", 1), ("saved", 2)]
