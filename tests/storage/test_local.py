"""What is special about files: leftovers, links, folders that come and go, and errors that say what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relight.storage.backends.base import Entry
from relight.storage.backends.disk import Disk
from relight.storage.backends.local import LocalBackend
from relight.storage.errors import AlreadyExists, Damaged, StorageError, StorageUnavailable
from relight.tests.storage.faults import FailingDisk

ELSEWHERE = "choose another storage.url"
LEFTOVER = f".key.{'0' * 32}.tmp"


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_a_crash_left_is_not_listed_and_goes_with_the_last_object(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    backend.put("a/b/key", b"data")
    (tmp_path / "a/b" / LEFTOVER).write_bytes(b"half")
    (tmp_path / "a/b/empty").mkdir()
    (tmp_path / "a/b/empty" / LEFTOVER).write_bytes(b"half")
    assert backend.list("a/b/") == [Entry("a/b/empty/", 0), Entry("a/b/key", 4)]
    backend.delete("a/b/key")
    assert everything(tmp_path) == ["a"]


def test_deleting_a_key_that_was_never_written_clears_what_a_crash_left_there(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b" / LEFTOVER).write_bytes(b"half")
    LocalBackend(tmp_path).delete("a/b/key")
    assert everything(tmp_path) == ["a"]


def test_a_folder_with_a_foreign_file_is_left_as_it_is(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    backend.put("a/b/key", b"data")
    (tmp_path / "a/b/notes.txt").write_text("mine")
    (tmp_path / "a/b" / LEFTOVER).write_bytes(b"half")
    backend.delete("a/b/key")
    assert everything(tmp_path) == ["a", "a/b", f"a/b/{LEFTOVER}", "a/b/notes.txt"]


@pytest.mark.parametrize(
    ("operation", "code", "text"),
    [
        ("write_new", errno.ENOSPC, "No space left on device; free some space or choose another storage.url"),
        (
            "write_new",
            errno.EDQUOT,
            "Disk quota exceeded; the quota is used up; free some space or choose another storage.url",
        ),
        (
            "write_new",
            errno.EFBIG,
            "File too large; raise the file size limit (ulimit -f) or choose another storage.url",
        ),
        (
            "make_dir",
            errno.EROFS,
            "Read-only file system; the filesystem is mounted read-only; remount it or choose another storage.url",
        ),
        (
            "make_dir",
            errno.EACCES,
            "Permission denied; check who owns it and its permissions, or choose another storage.url",
        ),
        (
            "link",
            errno.EPERM,
            "Operation not permitted; check its permissions and whether the filesystem supports hard links, or "
            + ELSEWHERE,
        ),
        (
            "link",
            errno.EOPNOTSUPP,
            "Operation not supported; the filesystem must support hard links and fsync; choose another storage.url",
        ),
        ("make_dir", errno.ENOTDIR, "Not a directory; a file is in the way; remove it or choose another storage.url"),
        ("make_dir", errno.EEXIST, "File exists; a file is in the way; remove it or choose another storage.url"),
        (
            "sync_dir",
            errno.EIO,
            "Input/output error; the device reports an error; look at the kernel log or choose another storage.url",
        ),
        (
            "link",
            errno.ENOENT,
            "No such file or directory; its folder cannot be made, or another process removes it; " + ELSEWHERE,
        ),
        ("write_new", errno.EMFILE, "Too many open files"),
    ],
)
def test_a_write_that_fails_says_why_and_what_to_do_and_leaves_nothing(
    tmp_path: Path, operation: str, code: int, text: str
) -> None:
    backend = LocalBackend(tmp_path, FailingDisk(operation, code, where=f"{tmp_path}/folder"))
    with pytest.raises(StorageUnavailable) as failed:
        backend.put("folder/key", b"data")
    assert str(failed.value) == f"cannot write {tmp_path}/folder/key: {text}"
    whole = [] if operation != "sync_dir" else ["folder/key"]  # There, as a whole: a reader settles it.
    assert [name for name in everything(tmp_path) if name != "folder"] == whole


def test_a_write_into_a_real_file_says_that_it_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StorageUnavailable, match="a file is in the way"):
        LocalBackend(tmp_path).put("folder/key", b"data")


def test_a_failed_deletion_says_so(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path, FailingDisk("unlink", errno.EROFS, where="key"))
    (tmp_path / "key").write_bytes(b"data")
    with pytest.raises(StorageUnavailable) as failed:
        backend.delete("key")
    assert str(failed.value).startswith(f"cannot delete {tmp_path}/key: Read-only file system")


def test_a_store_that_cannot_be_listed_is_no_empty_store(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StorageUnavailable) as failed:
        LocalBackend(tmp_path).list("folder/")
    assert str(failed.value).startswith(f"cannot list {tmp_path}/folder: Not a directory")


def test_a_listing_beside_a_deletion_shows_what_is_left_and_never_fails(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    paths = [tmp_path / "folder" / f"{number:04d}" for number in range(3000)]
    paths[0].parent.mkdir()
    for path in paths:
        path.touch()
    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(lambda: list(map(Path.unlink, paths)))
        counts = [3000]
        while counts[-1]:
            counts.append(len(backend.list("folder/")))
        deleting.result()
    assert counts == sorted(counts, reverse=True)


def test_a_folder_that_vanishes_under_a_write_is_made_again(tmp_path: Path) -> None:
    disk = FailingDisk("link", errno.ENOENT, times=2)
    LocalBackend(tmp_path, disk).put("a/key", b"data")
    assert disk.fired == 2
    assert everything(tmp_path) == ["a", "a/key"]


def test_a_link_whose_reply_was_lost_is_known_for_ours(tmp_path: Path) -> None:
    """NFS sends the request again and then sees its own file in the way."""

    class LosesTheReply(Disk):
        def link(self, source: Path, target: Path) -> None:
            super().link(source, target)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    backend = LocalBackend(tmp_path, LosesTheReply())
    backend.put("key", b"data")
    with pytest.raises(AlreadyExists):
        LocalBackend(tmp_path).put("key", b"other")
    assert everything(tmp_path) == ["key"]


def test_folders_of_the_system_that_cannot_be_synced_are_no_obstacle(tmp_path: Path) -> None:
    class OnlyOurs(Disk):
        def sync_dir(self, path: Path) -> None:
            if not path.is_relative_to(tmp_path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            super().sync_dir(path)

    LocalBackend(tmp_path / "run", OnlyOurs()).put("a/key", b"data")


def test_a_folder_of_the_run_that_cannot_be_synced_fails_the_write(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    backend = LocalBackend(tmp_path, FailingDisk("sync_dir", errno.EIO, where=str(tmp_path), times=1))
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        backend.put("a/key", b"data")


def test_settling_says_why_it_could_not(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path, FailingDisk("sync_dir", errno.EIO, where=f"{tmp_path}/a"))
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageUnavailable) as failed:
        backend.settle("a/")
    assert str(failed.value).startswith(f"cannot sync {tmp_path}/a: Input/output error")


@pytest.mark.parametrize("plant", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_plain_file_is_never_read(tmp_path: Path, plant: object) -> None:
    plant(tmp_path / "key")  # type: ignore[operator]
    _refused(tmp_path, "key is damaged: it is not a plain file")


def test_a_symbolic_link_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to("/etc/passwd")
    _refused(tmp_path, "key is damaged: key is a symbolic link, which is never followed")


@pytest.fixture
def led_out(tmp_path: Path) -> tuple[LocalBackend, Path]:
    """A run whose folder `a` is a link to one outside."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    for folder in (run, outside / "b"):
        folder.mkdir(parents=True)
    (outside / "key").write_bytes(b"secret")
    (outside / "b/key").write_bytes(b"secret")
    (run / "a").symlink_to(outside)
    return LocalBackend(run), outside


@pytest.mark.parametrize("folder", ["a/", "a/b/"])
def test_nothing_is_read_listed_written_or_deleted_through_a_linked_folder(
    led_out: tuple[LocalBackend, Path], folder: str
) -> None:
    backend, outside = led_out
    before = everything(outside)
    for act in (backend.read, backend.size, lambda key: backend.read_into(key, 0, memoryview(bytearray(1)))):
        with pytest.raises(Damaged) as refused:
            act(f"{folder}key")
        assert str(refused.value) == f"{folder}key is damaged: a is a symbolic link, which is never followed"
    acts: dict[str, Callable[[], object]] = {
        "cannot write": lambda: backend.put(f"{folder}new/key", b"data"),
        "cannot delete": lambda: backend.delete(f"{folder}key"),
        "cannot list": lambda: backend.list(folder),
        "cannot sync": lambda: backend.settle(folder),
    }
    for what, attempted in acts.items():
        with pytest.raises(StorageUnavailable) as failed:
            attempted()
        assert str(failed.value).startswith(f"{what} {backend.url}/{folder[:-1]}")
        assert str(failed.value).endswith(
            ": a is a symbolic link; none is followed inside a run's folder (which may be one itself): "
            "put the folder there, or choose another storage.url"
        )
    assert everything(outside) == before


def test_a_folder_that_becomes_a_link_after_it_was_written_to_is_not_written_to_again(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "run")
    backend.put("a/b/key", b"data")
    (tmp_path / "run/a").rename(tmp_path / "elsewhere")
    (tmp_path / "run/a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageUnavailable, match="a is a symbolic link"):
        backend.put("a/b/other", b"data")
    assert everything(tmp_path / "elsewhere") == ["b", "b/key"]


def test_the_run_s_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    backend = LocalBackend(tmp_path / "run")
    backend.put("a/key", b"data")
    backend.settle("a/")
    assert backend.read("a/key") == b"data"
    assert backend.list("a/") == [Entry("a/key", 4)]
    backend.delete("a/key")
    assert everything(tmp_path / "scratch") == ["a"]


def _refused(folder: Path, text: str) -> None:
    backend = LocalBackend(folder)
    for act in (backend.read, backend.size, lambda key: backend.read_into(key, 0, memoryview(bytearray(1)))):
        with pytest.raises(Damaged) as refused:
            act("key")
        assert str(refused.value) == text


def test_errors_of_the_room_have_one_root() -> None:
    assert issubclass(StorageUnavailable, StorageError)
    assert issubclass(Damaged, StorageError)
