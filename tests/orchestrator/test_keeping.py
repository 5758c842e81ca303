"""The bookkeeper: what it hears and sees reaches the journal, in time and within bounds."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relight.configs.goodput import read_goodput
from relight.configs.heartbeat import Beat, Phase
from relight.orchestrator.accounting import keeping
from relight.orchestrator.accounting.keeping import Bookkeeper, process_began_ns
from relight.orchestrator.journal import Journal
from relight.storage.backends.open import open_backend
from relight.tests.orchestrator.recorded import Recorded
from relight.tests.waiting import wait_until


def test_what_is_booked_is_told_at_the_end_of_each_attempt_and_of_the_life() -> None:
    life = Recorded("aaa", 1000.0)
    life.launch()
    life.train(1, 10)
    life.fail(1, step=10)
    life.train(7, 12, resumed=6)
    life.end()
    booked = [line for line in life.lines if line["event"] == "booked"]
    assert [(line["ends"], line["attempt"], line["step"]) for line in booked] == [("attempt", 1, 10), ("life", 2, 12)]
    assert [line["came_back_s"] for line in booked] == [None, 1]
    assert booked[1]["resumed_step"] == 0
    assert [line["event"] for line in life.lines][-2:] == ["ended", "booked"]
    for line in booked:
        assert sum(line["seconds"].values()) == pytest.approx(line["wall_s"], abs=0.01)


def test_how_things_are_is_shown_again_and_again_and_now_and_then_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_FIRST_TOLD_S", 0.01)
    monkeypatch.setattr(keeping, "TOLD_EVERY_S", 0.02)
    monkeypatch.setattr(keeping, "KEPT_EVERY_S", 0.1)
    backend = open_backend(str(tmp_path / "run"))
    scratch, run_dir = tmp_path, tmp_path / "attempt-1"
    books = Bookkeeper(scratch=scratch)
    journal = Journal("aaa", store=backend, heard=books.hear)
    with closing(journal), closing(books):
        books.start(journal)
        journal.record("launched")
        journal.record("joined", attempt=1)
        for step in (1, 2):
            books.observe({0: Beat(Phase.TRAINING, step, -1, -1, 1, 0)})
        wait_until(lambda: (read_goodput(run_dir) or 0) > 0, what="a goodput for the workers")
        wait_until(lambda: _lines(backend, "-00000", "progress"), what="progress for good")
    shown = _lines(backend, "-now", "now")
    assert len(shown) == 1
    assert (shown[0]["step"], shown[0]["doing"], shown[0]["incarnation"]) == (2, "training", "aaa")


def _lines(backend: Any, part: str, event: str) -> list[dict[str, Any]]:
    keys = [each.key for each in backend.list("journal/") if f"{part}.jsonl" in each.key]
    lines = [json.loads(line) for key in keys for line in backend.read(key).splitlines()]
    return [line for line in lines if line["event"] == event]


def test_a_month_of_training_is_a_few_megabytes() -> None:
    life = Recorded("aaa", 1000.0)
    life.launch()
    life.train(1, 1000)
    line = {"event": "progress", "at": 1_700_000_000.123, "host": "a-name-of-some-length", **life.keeper.facts()}
    month = len(json.dumps(line)) * 30 * 86400 / keeping.KEPT_EVERY_S
    print(f"a line of {len(json.dumps(line))} bytes; {month / 1e6:.1f} MB in a month")
    assert month < 5e6


def test_the_processs_own_beginning_belongs_to_the_launch() -> None:
    threads = threading.active_count()
    age_s = (time.monotonic_ns() - process_began_ns()) / 1e9
    again_s = (time.monotonic_ns() - process_began_ns()) / 1e9
    assert 0 < age_s <= again_s < age_s + 1
    assert threading.active_count() == threads
