"""Which checkpoint a run goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.storage.backends.local import LocalBackend
from relight.storage.errors import StorageUnavailable
from relight.workers.checkpoint.collective import Circle
from relight.workers.checkpoint.restoring import find
from relight.workers.errors import StorageTrouble


class Flaky(LocalBackend):
    """Lists and reads records, but the device reports an error for every shard."""

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        if key.endswith(".safetensors"):
            raise StorageUnavailable(f"cannot read {key}: Input/output error")
        return super().read_into(key, start, buffer)


def test_a_storage_that_cannot_be_read_is_trouble_and_no_reason_to_take_an_older_checkpoint(saved: Path) -> None:
    with pytest.raises(StorageTrouble) as caught:
        find(Flaky(saved), Circle(None))
    assert "Input/output error" in str(caught.value)


def test_the_newest_proven_checkpoint_is_found(saved: Path) -> None:
    found = find(LocalBackend(saved), Circle(None))
    assert found is not None
    assert found.head.progress["step"] == 4


def test_an_empty_storage_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert find(LocalBackend(tmp_path), Circle(None)) is None
