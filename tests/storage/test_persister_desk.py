"""What the process does that no well-behaved trainer or storage lets one see."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relight.storage import messages, persister_main
from relight.storage.backends.base import Entry
from relight.storage.backends.local import LocalBackend
from relight.storage.errands import Errand, Errands
from relight.storage.living import Living
from relight.storage.persist import Outcome
from relight.storage.persister_main import Desk
from relight.tests.storage.checkpoints import attempt_id, job, shard
from relight.tests.waiting import wait_until


class NeverAnswers(LocalBackend):
    """Its listings hang, until the test is over."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.over = threading.Event()

    def list(self, prefix: str) -> list[Entry]:
        self.over.wait()
        return super().list(prefix)


@dataclass
class Office:
    """A desk in this process, and the trainer's end of its socket."""

    desk: Desk
    trainer: socket.socket


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    ours, theirs = messages.pair()
    living = Living.announce(str(tmp_path), 0)
    with ours, theirs:
        yield Office(Desk(theirs, living, os.getppid()), ours)
    living.end()


def errand(number: int, deadline_s: float) -> Errand:
    return Errand(
        number=number,
        job=job(attempt_id(10 * number), world_size=1, deadline_s=deadline_s),
        view=lambda: shard(10 * number, 0, 1),
        seal=None,
        durable=True,
    )


def test_an_orphan_whose_storage_never_answers_goes_at_its_save_s_deadline(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(persister_main, "_CLEARING_S", 0.05)
    backend = NeverAnswers(tmp_path)
    errands = Errands(backend, office.desk)
    given = errand(1, deadline_s=0.1)
    office.desk._descriptors[1] = os.dup(office.trainer.fileno())
    errands.add(given)
    wait_until(lambda: not given.readers, what="the shard to be written")
    assert not office.desk._leave(errands)
    assert caplog.messages == ["the save of step 10 is given up: not done 0.15 s after its worker's end"]
    backend.over.set()
    errands.close()


def test_a_reason_that_is_no_text_is_told_all_the_same(office: Office) -> None:
    office.desk.ended(errand(1, 1), Outcome(10, failed="cannot write /runs/\udcff"))
    message, _ = messages.receive(office.trainer)
    assert message == messages.Ended(number=1, outcome=Outcome(10, failed="cannot write /runs/?"))


def test_what_comes_before_the_first_word_is_not_understood(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    messages.send(office.trainer, messages.CalledOff(number=1, reason=""))
    assert office.desk.serve() == 1
    assert caplog.messages == ["the persister does not understand its trainer: called_off came first"]
