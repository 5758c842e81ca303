"""What happened is kept, and keeping it stops nothing."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from relight.orchestrator.journal import Journal
from relight.storage.backends.open import open_backend
from relight.storage.errors import StorageError
from relight.tests.waiting import wait_until

KEY = f"journal/cafe-{socket.gethostname()}.jsonl"


def test_events_are_lines_in_the_runs_storage(tmp_path: Path) -> None:
    backend = open_backend(str(tmp_path / "run"))
    journal = Journal("cafe", store=backend)
    journal.record("launched", processes=2)
    wait_until(lambda: [each for each in backend.list("journal/") if each.key.endswith(".jsonl")])
    journal.record("ended", exit_code=0)
    journal.close()
    lines = [json.loads(line) for line in backend.read(KEY).splitlines()]
    assert [(line["event"], line["incarnation"]) for line in lines] == [("launched", "cafe"), ("ended", "cafe")]
    assert lines[0]["at"] <= lines[1]["at"]
    assert lines[0]["processes"] == 2


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


@pytest.mark.parametrize("store", [None])
def test_without_a_place_nothing_is_kept(store: None) -> None:
    journal = Journal("cafe", store=store)
    journal.record("a")
    journal.close()
