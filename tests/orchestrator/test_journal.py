"""What happened is kept, and keeping it stops nothing."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from relight.orchestrator import journal as module
from relight.orchestrator.journal import PART_BYTES, Journal, Parts
from relight.storage.backends.base import Backend
from relight.storage.backends.open import open_backend
from relight.storage.errors import StorageError
from relight.tests.waiting import wait_until

STEM = f"journal/cafe-{socket.gethostname()}"
FIRST = f"{STEM}-00000.jsonl"
MONTH_S = 30 * 86400


def _stored(backend: Backend, key: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in backend.read(key).splitlines()]


def test_events_are_lines_in_the_runs_storage(tmp_path: Path) -> None:
    backend = open_backend(str(tmp_path / "run"))
    journal = Journal("cafe", store=backend)
    journal.record("launched", processes=2)
    wait_until(lambda: [each for each in backend.list("journal/") if each.key.endswith(".jsonl")])
    journal.record("ended", exit_code=0)
    journal.close()
    lines = _stored(backend, FIRST)
    assert [(line["event"], line["incarnation"]) for line in lines] == [("launched", "cafe"), ("ended", "cafe")]
    assert lines[0]["at"] <= lines[1]["at"]
    assert lines[0]["processes"] == 2


def test_a_person_is_told_where_the_newest_lines_are(tmp_path: Path) -> None:
    backend = open_backend(str(tmp_path / "run"))
    journal = Journal("cafe", store=backend)
    for number in range(1000):
        journal.record("progress", number=number)
    journal.close()
    assert Path(journal.place) == tmp_path / "run" / f"{STEM}-00001.jsonl"
    assert json.loads(Path(journal.place).read_bytes().splitlines()[-1])["number"] == 999
    local = tmp_path / "journal.jsonl"
    assert Journal("cafe", local=local).place == str(local)
    assert Journal("cafe").place == ""


def test_a_store_that_is_known_later_has_what_was_recorded_before(tmp_path: Path) -> None:
    """A script's: its workers say where the run lives once they have restored. The first word counts."""
    journal = Journal("cafe", local=tmp_path / "journal.jsonl")
    journal.record("launched")
    backend = open_backend(str(tmp_path / "run"))
    journal.keep_in(backend)
    journal.keep_in(open_backend(str(tmp_path / "other")))
    journal.record("ended")
    journal.close()
    assert [line["event"] for line in _stored(backend, FIRST)] == ["launched", "ended"]
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "other").exists()


def test_how_things_are_now_takes_the_place_of_what_was(tmp_path: Path) -> None:
    backend = open_backend(str(tmp_path / "run"))
    journal = Journal("cafe", store=backend, local=tmp_path / "journal.jsonl")
    for step in range(100):
        journal.show("now", step=step)
    journal.close()
    assert [line["step"] for line in _stored(backend, f"{STEM}-now.jsonl")] == [99]
    assert [each.key for each in backend.list("journal/")] == [f"{STEM}-now.jsonl"]
    assert not (tmp_path / "journal.jsonl").exists()


def test_a_long_journal_is_kept_in_parts_that_lose_nothing(tmp_path: Path) -> None:
    backend = open_backend(str(tmp_path / "run"))
    journal = Journal("cafe", store=backend)
    for number in range(3000):
        journal.record("progress", number=number)
    journal.close()
    keys = [each.key for each in backend.list("journal/")]
    assert keys == [f"{STEM}-{number:05d}.jsonl" for number in range(len(keys))]
    assert len(keys) > 3
    assert [line["number"] for key in keys for line in _stored(backend, key)] == list(range(3000))
    assert max(backend.size(key) for key in keys) < PART_BYTES + 1000


def test_what_is_stored_grows_with_the_lines_and_not_with_their_square() -> None:
    """A month of progress and ten thousand restarts, each line put at once: the worst that can be asked of a store."""
    parts, put, puts = Parts("journal/cafe-host"), 0, 0
    for number in range(MONTH_S // 600 + 5 * 10_000):
        parts.add(b"x" * 700 if number % 12 else b"x" * 300)
        for _, document in parts.take():
            put += len(document)
            puts += 1
    print(f"{puts} puts of {put / puts / 1024:.0f} KiB on average, {put / 2**30:.1f} GiB in all")
    assert put <= puts * (PART_BYTES + 700)


class Slow:
    """A store of which each put takes as long as the test likes, and which refuses when it is told to."""

    url = "slow://"

    def __init__(self) -> None:
        self.puts: list[tuple[str, bytes]] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.refuses = False

    def put(self, key: str, data: bytes, *, overwrite: bool = False) -> None:
        assert overwrite
        self.begun.release()
        assert self.go_on.acquire(timeout=30)
        if self.refuses:
            raise OSError("refused")
        self.puts.append((key, data))


def test_recording_waits_for_no_store_and_what_comes_meanwhile_is_put_together() -> None:
    store = Slow()
    journal = Journal("cafe", store=store)
    journal.record("first")
    assert store.begun.acquire(timeout=30)
    for number in range(500):  # The store is still at the first.
        journal.record("later", number=number)
    store.go_on.release(2)
    journal.close()
    assert [data.count(b"\n") for _, data in store.puts] == [1, 501]


def test_what_a_store_refused_is_put_again_when_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACE_IN_TROUBLE_S", 0.01)
    store, said = Slow(), list[str]()
    store.refuses = True
    journal = Journal("cafe", store=store, warn=said.append)
    journal.record("only", number=1)
    for _ in range(3):
        assert store.begun.acquire(timeout=30)
        store.go_on.release()
    wait_until(lambda: said)
    store.refuses = False
    store.go_on.release(2)
    wait_until(lambda: store.puts)
    journal.close()
    assert [json.loads(data)["number"] for _, data in store.puts] == [1]
    assert len(said) == 1


def test_a_store_that_stays_away_costs_bounded_memory_and_the_oldest_lines() -> None:
    parts = Parts("journal/cafe-host")
    for _ in range(module._MOST_PARTS + 50):
        parts.add(b"x" * PART_BYTES)
    parts.give_back(parts.take())
    keys = [key for key, _ in parts.take()]
    assert len(keys) == module._MOST_PARTS
    assert keys[-1] == f"journal/cafe-host-{module._MOST_PARTS + 49:05d}.jsonl"


def test_what_was_given_back_does_not_undo_what_came_since() -> None:
    parts = Parts("journal/cafe-host")
    parts.add(b"one\n")
    taken = parts.take()
    parts.add(b"two\n")
    parts.give_back(taken)
    assert parts.take() == [("journal/cafe-host-00000.jsonl", b"one\ntwo\n")]


def test_whoever_listens_hears_every_line() -> None:
    heard: list[dict[str, Any]] = []
    journal = Journal("cafe", heard=heard.append)
    journal.record("joined", attempt=2)
    journal.show("now", step=1)
    assert [(line["event"], line["attempt"], line["incarnation"]) for line in heard] == [("joined", 2, "cafe")]


def test_a_storage_that_refuses_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal").touch()  # A file where a folder is needed.
    said: list[str] = []
    local = tmp_path / "journal.jsonl"
    backend = open_backend(str(tmp_path / "run"))
    journal = Journal("cafe", store=backend, local=local, warn=said.append, refusals=(StorageError,))
    for number in range(3):
        journal.record("restart", number=number)
    journal.close()
    assert len(said) == 1
    assert said[0].startswith("the journal cannot be stored, the run goes on without it: ")
    assert len(local.read_text().splitlines()) == 3


def test_a_log_directory_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    journal = Journal("cafe", local=tmp_path / "none" / "journal.jsonl", warn=said.append)
    journal.record("a")
    journal.record("b")
    journal.close()
    assert len(said) == 1
    assert said[0].startswith(f"the journal is not written to {tmp_path}/none/journal.jsonl: ")


def test_without_a_place_nothing_is_kept() -> None:
    journal = Journal("cafe")
    journal.record("a")
    journal.show("now", step=1)
    journal.close()
