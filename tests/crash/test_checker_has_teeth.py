"""The crash checker finds the losses of storage that is broken on purpose: each promise, taken away, is missed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from relight.storage.backends.local import LocalBackend
from relight.storage.errors import AlreadyExists
from relight.storage.layout import is_shard_name
from relight.tests.crash.checking import Checker
from relight.tests.crash.lives import Committed, Life, whole_story
from relight.tests.crash.recording import Recorder, RecordingDisk
from relight.tests.storage.checkpoints import attempt_id

if TYPE_CHECKING:
    from relight.storage.backends.base import Bytes


class NeverSyncsFolders(RecordingDisk):
    def sync_dir(self, path: Path) -> None:
        self.gate()


class NeverSyncsFiles(RecordingDisk):
    def write_new(self, path: Path, data: Bytes) -> None:
        super().write_new(path, data)
        self._recorder.ops.pop()


class WritesInPlace(LocalBackend):
    """As most programs do: open the file and write into it."""

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        target = self._path(key)
        self._make_folder(target.parent)
        if overwrite:
            self._disk.unlink(target)
        try:
            self._disk.write_new(target, data)
        except FileExistsError:
            raise AlreadyExists(key) from None
        self._disk.sync_dir(target.parent)


class ManifestFirst(LocalBackend):
    """Rank 0's shard is written after the manifest that vouches for it."""

    held: ClassVar[dict[str, bytes]] = {}

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        if "rank-00000-of" in key:
            self.held[key] = bytes(data)
            return
        super().put(key, data, overwrite=overwrite)
        if key.endswith("manifest.json"):
            for held in list(self.held):
                super().put(held, self.held.pop(held))


class ShardsGoFirst(LocalBackend):
    """Retention and sweep take the data away while the manifest still says that it is there."""

    def delete(self, key: str) -> None:
        if key.endswith("manifest.json"):
            for entry in self.list(key.removesuffix("manifest.json")):
                if is_shard_name(entry.key.rpartition("/")[2]):
                    super().delete(entry.key)
        super().delete(key)


class ReceiptsGoFirst(LocalBackend):
    """As above with the receipts, which no listing of the checkpoint's folder would miss."""

    def delete(self, key: str) -> None:
        if key.endswith("manifest.json"):
            for entry in self.list(f"{key.removesuffix('manifest.json')}receipts/"):
                super().delete(entry.key)
        super().delete(key)


class NeverSettles(LocalBackend):
    """Rank 0 commits on receipts whose names are not durable yet."""

    def settle(self, prefix: str) -> None:
        pass


class TrustsFoldersThatAreThere(LocalBackend):
    """A folder that exists is taken for durable, though whoever made it was killed before it synced."""

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            self._disk.make_dir(folder)
            self._disk.sync_dir(folder.parent)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ({"disk": NeverSyncsFolders}, "LOST: step-"),
        ({"disk": NeverSyncsFolders}, "LOST: generation"),
        ({"disk": NeverSyncsFolders}, "LOST: the run's record"),
        ({"disk": NeverSyncsFiles}, "came out damaged"),
        ({"backend": WritesInPlace}, "FALSE: run.json is damaged"),
        ({"backend": WritesInPlace}, "LOST: 1 lines of the journal"),
        ({"backend": ManifestFirst}, "is missing"),
        ({"backend": ShardsGoFirst}, "is missing"),
        ({"backend": ReceiptsGoFirst}, "would be used"),
    ],
    ids=lambda value: next(iter(value.values())).__name__ if isinstance(value, dict) else "",
)
def test_the_checker_finds_what_is_broken(in_memory: Path, broken: dict[str, type], complaint: str) -> None:
    recorder = Recorder(in_memory / "life")
    whole_story(recorder, 0, **broken)
    assert any(complaint in problem for problem in Checker(in_memory).run(recorder.base, recorder.ops))


def test_the_checker_finds_receipts_that_were_not_durable_when_they_were_counted(in_memory: Path) -> None:
    problems = _saved_in_many_orders(in_memory, NeverSettles)
    complaint = "receipts/rank-00001.json is damaged: it is missing"
    assert any("would be used: " in problem and complaint in problem for problem in problems)


def test_the_checker_finds_folders_that_a_killed_process_left_unsynced(in_memory: Path) -> None:
    assert any("LOST: step-" in problem for problem in _saved_after_a_kill(in_memory, TrustsFoldersThatAreThere))


def _saved_in_many_orders(scratch: Path, backend: type[LocalBackend]) -> Iterator[str]:
    """Whether rank 0 comes before rank 1's last step depends on the order of steps."""
    for seed in range(12):
        recorder = Recorder(scratch / f"life-{seed}")
        Life(recorder, seed=seed, backend=backend).save(attempt_id(10))
        yield from Checker(scratch).run(recorder.base, recorder.ops)


def _saved_after_a_kill(scratch: Path, backend: type[LocalBackend]) -> Iterator[str]:
    for kill_at in range(12):
        recorder = Recorder(scratch / f"life-{kill_at}")
        Life(recorder, seed=kill_at, backend=backend).start("one", kill_at=kill_at)
        second = Life(recorder, seed=kill_at, backend=backend)
        second.start("two")
        second.save(attempt_id(10, generation=4))
        promised = max(number for number, op in enumerate(recorder.ops) if isinstance(op.mark, Committed))
        yield from Checker(scratch).run(recorder.base, recorder.ops[: promised + 1], start=promised)
