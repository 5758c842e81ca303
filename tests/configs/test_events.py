"""What a rank tells its launcher's journal."""

from __future__ import annotations

from pathlib import Path

from relight.configs.events import Events, events_path, read_events


def test_what_all_ranks_told_is_read_in_order(tmp_path: Path) -> None:
    first, second = Events(tmp_path, 0), Events(tmp_path, 1)
    first.tell("interval", step=3, interval_s=5.0)
    second.tell("save meets another", step=4, answer="skip")
    first.tell("interval", step=9)
    events = read_events(tmp_path)
    assert [(event["event"], event["rank"], event["step"]) for event in events] == [
        ("interval", 0, 3),
        ("save meets another", 1, 4),
        ("interval", 0, 9),
    ]
    assert all(event["at"] > 1.7e9 for event in events)


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    events = Events(tmp_path, 0)
    events.tell("whole")
    with events_path(tmp_path, 0).open("a") as file:
        file.write('{"event": "cut')
    assert [event["event"] for event in read_events(tmp_path)] == ["whole"]


def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    Events(None, 0).tell("unheard")
    gone = Events(tmp_path / "gone", 0)
    gone.tell("unheard")
    gone.tell("unheard")
    assert read_events(tmp_path) == []
