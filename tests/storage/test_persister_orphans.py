"""A trainer that is killed loses nothing that it has staged: its persister seals it, saves it, and then goes."""

from __future__ import annotations

import os
import signal
import time
import uuid
from pathlib import Path

import pytest

from relight.storage import living
from relight.storage.backends.base import Backend
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.staged import Seal
from relight.storage.verify import verify
from relight.tests.processes import alive
from relight.tests.servers import Server, environment
from relight.tests.storage.checkpoints import attempt_id, persist_rank, save, steps
from relight.tests.storage.trainers import Trainer
from relight.tests.waiting import wait_until


def assert_committed(backend: Backend, step: int) -> None:
    assert verify(backend, Catalog(backend).find(step).manifest) == []


def test_what_was_submitted_just_before_the_kill_is_sealed_and_committed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url, seal = str(tmp_path / "run"), tmp_path / "arena.seal"
    with Trainer(url, seal=seal) as trainer:
        trainer.submit_and_die()
        assert living.wait_sealed(url, 30)
        assert Seal.from_bytes(seal.read_bytes(), seal.name).step == 10
        assert living.wait_persisted(url, 30)
        assert_committed(LocalBackend(tmp_path / "run"), 10)
        wait_until(lambda: not alive(trainer.persister))
        assert alive(trainer.loader), "it held the trainer's end of the socket all the time"
    assert not living.everyone(url)
    assert capfd.readouterr().err == "relight: step 10 was committed after its worker's end\n"


@pytest.mark.needs("weed")
def test_it_is_committed_to_an_object_store_as_well(seaweed: Server) -> None:
    prefix = uuid.uuid4().hex
    with environment(seaweed.environment), Trainer(seaweed.url(prefix)) as trainer:
        trainer.submit_and_die()
        assert living.wait_persisted(seaweed.url(prefix), 60)
        assert_committed(seaweed.backend(prefix), 10)


def test_a_save_of_several_ranks_that_are_all_killed_is_committed(tmp_path: Path) -> None:
    url = str(tmp_path)
    with Trainer(url, 0, 2) as first, Trainer(url, 1, 2) as second:
        files = [each.path for each in living.everyone(url)]
        first.submit_and_die()
        second.submit_and_die()
        wait_until(lambda: not alive(first.persister) and not alive(second.persister))
        assert len(files) == 2
        assert not any(file.exists() for file in files), "they take their files with them"
    assert_committed(LocalBackend(tmp_path), 10)


def test_for_ranks_that_never_staged_nobody_waits(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All ranks were here, and rank 1's persister has gone without a receipt: there is none to come."""
    save(LocalBackend(tmp_path), attempt_id(5))
    url = str(tmp_path)
    with Trainer(url, 0, 2) as first, Trainer(url, 1, 2) as second:
        began = time.monotonic()
        first.submit_and_die()
        assert living.wait_sealed(url, 30, ranks=[0]), "it has seen rank 1's persister then"
        second.die()
        assert living.wait_persisted(url, 30)
        assert time.monotonic() - began < 30, "the save's deadline is 600 s"
    assert steps(LocalBackend(tmp_path)) == [5]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [attempt_id(5).name]
    assert capfd.readouterr().err == (
        "relight: the save of step 10 failed after its worker's end: "
        "the workers were gone before every rank had staged its shard\n"
    )


def test_a_rank_on_another_host_is_waited_for_until_somebody_knows_better(tmp_path: Path) -> None:
    url = str(tmp_path)
    with Trainer(url, 0, 2) as trainer:
        trainer.submit_and_die()
        assert living.wait_sealed(url, 30)
        assert not living.wait_persisted(url, 0.2)
        living.call_off(url)
        assert living.wait_persisted(url, 30)
    assert steps(LocalBackend(tmp_path)) == []
    assert not list(tmp_path.rglob("*.safetensors"))


def test_what_is_there_when_it_is_called_off_is_committed(tmp_path: Path) -> None:
    url = str(tmp_path)
    with Trainer(url, 0, 2) as trainer:
        trainer.submit_and_die()
        assert living.wait_sealed(url, 30)
        os.kill(trainer.persister, signal.SIGSTOP)
        persist_rank(LocalBackend(tmp_path), attempt_id(10), rank=1)
        living.call_off(url)
        os.kill(trainer.persister, signal.SIGCONT)
        assert living.wait_persisted(url, 30)
    assert_committed(LocalBackend(tmp_path), 10)


def test_a_persister_that_dies_before_it_has_sealed_leaves_no_seal(tmp_path: Path) -> None:
    url, seal = str(tmp_path / "run"), tmp_path / "arena.seal"
    with Trainer(url, seal=seal) as trainer:
        os.kill(trainer.persister, signal.SIGSTOP)
        trainer.submit_and_die()
        assert [each.state for each in living.predecessors(url)] == [living.State.ATTENDED]
        assert not living.wait_sealed(url, 0.1), "it has not even read what it was sent"
        os.kill(trainer.persister, signal.SIGKILL)
        assert living.wait_sealed(url, 30)
    assert not seal.exists()
    assert steps(LocalBackend(tmp_path / "run")) == []
