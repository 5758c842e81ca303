"""How `relight status` looks: for people, for scripts, once and again and again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relight.orchestrator.commands.status import status
from relight.orchestrator.commands.status_view import duration, follow, line, print_status
from relight.tests.orchestrator.recorded import Recorded

NOON = 1_700_000_000.0


def test_it_is_printed_for_people_and_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    life = Recorded("aaa", NOON)
    life.launch()
    life.train(1, 10)
    life.fail(1, step=10)
    life.train(7, 12, resumed=6)
    life.end(70)
    life.store(tmp_path)
    facts = status(str(tmp_path), life.at + 5)
    print_status(facts, as_json=True)
    assert json.loads(capsys.readouterr().out) == facts
    print_status(facts, as_json=False)
    shown = {row.split("  ")[0].strip(): " ".join(row.split()) for row in capsys.readouterr().out.splitlines()}
    assert shown["state"] == "state gave up (exit code 70) 5.00 s ago"
    assert shown["committed"] == "committed nothing"
    assert shown["host"] == "host alpha: rank 0"
    assert shown["last failure"] == (
        "last failure 13 s ago, rank 0 on alpha at step 10: killed by SIGKILL (KILLED); restart: first failure"
    )
    assert shown["productive"] == "productive 11 s 52.4%"
    assert shown["wall clock"] == "wall clock 21 s 100.0%"


def test_it_is_followed_until_the_run_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    life = Recorded("aaa", NOON)
    life.launch()
    life.train(1, 10)
    life.show()
    life.store(tmp_path)

    def pause(_: float) -> None:
        life.end(0)
        life.store(tmp_path)

    follow(lambda: status(str(tmp_path), life.at), pause, as_json=False)
    running, finished = capsys.readouterr().out.splitlines()
    assert running.startswith("running (training), as of 0.00 s ago; what came since is not booked yet; step 10, ")
    assert finished.startswith("finished (exit code 0) 0.00 s ago; step 10, committed nothing; goodput ")
    assert line(status(str(tmp_path), life.at)) == finished


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0.40 s"),
        (12.3, "12 s"),
        (59.9, "1 min 0 s"),
        (200, "3 min 20 s"),
        (14700, "4 h 5 min"),
        (183600, "2 d 3 h"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
