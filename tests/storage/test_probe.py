"""A store that cannot keep two launchers apart is refused before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.storage.backends.base import Backend, Bytes
from relight.storage.backends.local import LocalBackend
from relight.storage.backends.open import open_backend
from relight.storage.errors import NotExclusive, StorageUnavailable
from relight.storage.probe import probe
from relight.tests.servers import environment, rclone


class Careless(LocalBackend):
    """Overwrites what is there."""

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        super().put(key, data, overwrite=True)


def advice(backend: Backend) -> str:
    return (
        f"{backend.url} overwrites what it was asked to create (it ignores If-None-Match), so that two launchers "
        "could not be kept apart. Choose another server, or, if nothing else ever writes to this run, "
        "set storage.single_writer: true (in a script: CheckpointSettings(single_writer=True))"
    )


def test_a_store_that_refuses_the_second_write_is_fit_and_left_as_it_was(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "run")
    probe(backend)
    assert backend.list("") == []


def test_a_store_that_overwrites_is_refused_unless_there_is_a_single_writer(tmp_path: Path) -> None:
    backend = Careless(tmp_path / "run")
    with pytest.raises(NotExclusive) as refused:
        probe(backend)
    assert str(refused.value) == advice(backend)
    probe(backend, single_writer=True)
    assert backend.list("") == []


def test_a_store_that_fails_in_between_is_left_as_it_was(tmp_path: Path) -> None:
    class Failing(LocalBackend):
        def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
            if self.list(""):
                raise StorageUnavailable("planted")
            super().put(key, data)

    backend = Failing(tmp_path)
    with pytest.raises(StorageUnavailable, match="planted"):
        probe(backend)
    assert backend.list("") == []


@pytest.mark.needs("rclone")
def test_rclones_server_which_ignores_conditions_is_refused_with_the_reason(tmp_path: Path) -> None:
    with rclone(tmp_path) as server, environment(server.environment):
        backend = open_backend("s3://bucket/run")
        with pytest.raises(NotExclusive) as refused:
            probe(backend)
        print(refused.value)
        assert str(refused.value) == advice(backend)
        probe(backend, single_writer=True)
        assert backend.list("") == []
