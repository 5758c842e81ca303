"""Disks that are really full, read-only or forbidden: the save fails with the reason, and that is all that happens."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.storage.arrangement import plan
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.persist import Outcome, persist
from relight.storage.shards import Piece
from relight.storage.verify import verify
from relight.tests.storage.checkpoints import attempt_id, job, steps

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "relight-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def save(root: Path, step: int, size: int) -> Outcome:
    layout = plan([Piece.whole("w", "U8", (size,))], {})
    data = memoryview(bytearray(layout.header.ljust(layout.size)))
    return persist(LocalBackend(root), job(attempt_id(step), world_size=1), data)


def free(folder: Path) -> int:
    there = os.statvfs(folder)
    return there.f_bfree * there.f_bsize


def assert_goes_on(root: Path) -> None:
    """The checkpoint of step 10 is whole, step 20 does not exist, and the next save is fine."""
    backend = LocalBackend(root)
    assert steps(backend) == [10]
    assert verify(backend, Catalog(backend).find(10).manifest) == []
    assert [path.name for path in (root / "checkpoints").iterdir()] == [attempt_id(10).name]
    assert save(root, 30, MIB) == Outcome(30, committed=True)
    assert steps(backend) == [30, 10]


@pytest.mark.needs("root", "mount")
def test_a_full_disk_fails_the_save_and_gives_the_space_back(small_disk: Path) -> None:
    assert save(small_disk, 10, 8 * MIB).committed
    before = free(small_disk)
    key = attempt_id(20).shard_key(0, 1)
    assert save(small_disk, 20, 10 * MIB) == Outcome(
        20,
        failed=f"cannot write {small_disk}/{key}: No space left on device; "
        "free some space or choose another storage.url",
    )
    assert free(small_disk) == before
    assert_goes_on(small_disk)


@pytest.mark.needs("root", "mount")
def test_a_disk_that_turns_read_only_fails_the_save_and_not_the_run(small_disk: Path) -> None:
    assert save(small_disk, 10, MIB).committed
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert save(small_disk, 20, MIB).failed == (
        f"cannot write {small_disk}/{attempt_id(20).shard_key(0, 1)}: Read-only file system; "
        "the filesystem is mounted read-only; remount it or choose another storage.url"
    )
    assert steps(LocalBackend(small_disk)) == [10]
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert_goes_on(small_disk)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Permission bits mean nothing to root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written_fails_the_save_and_not_the_run(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    assert save(tmp_path, 10, MIB).committed
    (tmp_path / "checkpoints").chmod(0o555)
    with nobody():
        outcome = save(tmp_path, 20, MIB)
    (tmp_path / "checkpoints").chmod(0o755)
    assert outcome.failed == (
        f"cannot write {tmp_path}/{attempt_id(20).shard_key(0, 1)}: Permission denied; "
        "check who owns it and its permissions, or choose another storage.url"
    )
    assert_goes_on(tmp_path)


def test_a_limit_on_the_size_of_files_fails_the_save_and_not_the_run(tmp_path: Path) -> None:
    assert save(tmp_path, 10, MIB).committed
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
    try:
        outcome = save(tmp_path, 20, 3 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcome.failed == (
        f"cannot write {tmp_path}/{attempt_id(20).shard_key(0, 1)}: File too large; "
        "raise the file size limit (ulimit -f) or choose another storage.url"
    )
    assert_goes_on(tmp_path)
