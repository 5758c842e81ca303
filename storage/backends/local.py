"""A run on a local (or POSIX network) filesystem."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import AlreadyExists, Damaged, NotFound, StorageUnavailable
from .base import Bytes, Entry, Source, check_key, check_prefix
from .beneath import open_file, open_folder
from .direct import read_fully
from .disk import Disk

_TEMPORARY = re.compile(r"\.[^/]+\.[0-9a-f]{32}\.tmp")
_TRIES = 3
_ELSEWHERE = "or choose another storage.url"

_ADVICE = {
    errno.ENOSPC: f"free some space {_ELSEWHERE}",
    errno.EDQUOT: f"the quota is used up; free some space {_ELSEWHERE}",
    errno.EFBIG: f"raise the file size limit (ulimit -f) {_ELSEWHERE}",
    errno.EROFS: f"the filesystem is mounted read-only; remount it {_ELSEWHERE}",
    errno.EACCES: f"check who owns it and its permissions, {_ELSEWHERE}",
    errno.EPERM: f"check its permissions and whether the filesystem supports hard links, {_ELSEWHERE}",
    errno.EOPNOTSUPP: f"the filesystem must support hard links and fsync; {_ELSEWHERE.removeprefix('or ')}",
    errno.ENOTDIR: f"a file is in the way; remove it {_ELSEWHERE}",
    errno.EEXIST: f"a file is in the way; remove it {_ELSEWHERE}",
    errno.ELOOP: "none is followed inside a run's folder (which may be one itself): put the folder there, "
    f"{_ELSEWHERE}",
    errno.EIO: f"the device reports an error; look at the kernel log {_ELSEWHERE}",
    errno.ENOENT: f"its folder cannot be made, or another process removes it; {_ELSEWHERE.removeprefix('or ')}",
}


class LocalBackend:
    """Files below one folder. `put` publishes with a hard link, so a name appears whole or not at all."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._root = root.absolute()
        self._disk = disk or Disk()
        self._durable: set[Path] = set()
        """Folders whose names this backend itself has made durable."""

    @property
    def url(self) -> str:
        return str(self._root)

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        self._put(key, lambda path: self._disk.write_new(path, data), overwrite=overwrite)

    def put_stream(self, key: str, source: Source) -> None:
        self._put(key, lambda path: self._disk.write_stream(path, source), overwrite=False)

    def _put(self, key: str, write: Callable[[Path], None], *, overwrite: bool) -> None:
        target = self._path(key)
        with _translated(f"cannot write {target}", StorageUnavailable):
            self._refuse_links(key.rpartition("/")[0])
            for left in reversed(range(_TRIES)):
                try:
                    self._write(target, write, overwrite=overwrite)
                    break
                except FileNotFoundError:  # Another process emptied the folder and took it away in the same moment.
                    if not left:
                        raise
            self._disk.sync_dir(target.parent)

    def _write(self, target: Path, write: Callable[[Path], None], *, overwrite: bool) -> None:
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        self._make_folder(target.parent)
        try:
            write(temporary)
            self._publish(temporary, target, overwrite=overwrite)
        finally:
            # On any failure the space is given back; after a crash `list` hides the leftover and `delete` takes it.
            with contextlib.suppress(OSError):
                self._disk.unlink(temporary)

    def _publish(self, temporary: Path, target: Path, *, overwrite: bool) -> None:
        if overwrite:
            self._disk.replace(temporary, target)
            return
        try:
            self._disk.link(temporary, target)
        except FileExistsError:
            # Over NFS the reply to a link can be lost and the request be sent again: then the name in the way is ours.
            if not _is_same(temporary, target):
                message = f"{target} exists already and is never overwritten"
                raise AlreadyExists(message) from None

    def _make_folder(self, folder: Path) -> None:
        """Have the folder, its name and those above it made durable by this very process.

        That it is there is not enough: whoever made it may have been killed before it could sync.
        """
        if folder in self._durable and folder.is_dir():
            return
        if folder != folder.parent:
            self._make_folder(folder.parent)
        made = self._disk.make_dir(folder)
        try:
            self._disk.sync_dir(folder.parent)
        except OSError:
            # Outside the run's folder there are those of the system, not ours to read and perhaps unable to sync.
            if made or folder.parent.is_relative_to(self._root):
                raise
        self._durable.add(folder)

    def settle(self, prefix: str) -> None:
        inside = check_prefix(prefix)
        folder = self._root / inside
        with _translated(f"cannot sync {folder}"):
            self._refuse_links(inside)
            if folder.is_dir():
                self._make_folder(folder)
                self._disk.sync_dir(folder)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with self._opened(key) as descriptor:
            there = max(0, os.fstat(descriptor).st_size - start)
            buffer = bytearray(there if length is None else min(length, there))
            got = read_fully(descriptor, start, memoryview(buffer))
            return bytes(memoryview(buffer)[:got])

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        with self._opened(key) as descriptor:
            return read_fully(descriptor, start, buffer)

    def size(self, key: str) -> int:
        with self._opened(key) as descriptor:
            return os.fstat(descriptor).st_size

    def list(self, prefix: str) -> list[Entry]:
        inside = check_prefix(prefix)
        with _translated(f"cannot list {self._root / inside}"):
            try:
                with open_folder(self._root, inside) as folder:
                    # Asked for their sizes while the folder is open.
                    items = (item for item in os.scandir(folder) if not _TEMPORARY.fullmatch(item.name))
                    return sorted(entry for item in items if (entry := _entry(prefix, item)) is not None)
            except FileNotFoundError:
                return []

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated(f"cannot delete {path}"):
            self._refuse_links(key.rpartition("/")[0])
            try:
                self._disk.unlink(path)
                self._disk.sync_dir(path.parent)
            except FileNotFoundError:
                return
            self._prune(path.parent)

    def _prune(self, folder: Path) -> None:
        """Remove folders that became empty, with what a crash left in them. Those of the first level stay."""
        with contextlib.suppress(OSError):  # Somebody else writes or removes here at the same moment: theirs to finish.
            while self._root in folder.parent.parents and _is_void(folder):
                self._clear(folder)
                folder = folder.parent

    def _clear(self, folder: Path) -> None:
        for item in list(os.scandir(folder)):
            if item.is_dir(follow_symlinks=False):
                self._clear(Path(item.path))
            elif _TEMPORARY.fullmatch(item.name):
                self._disk.unlink(Path(item.path))
        self._disk.remove_dir(folder)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _refuse_links(self, inside: str) -> None:
        """Raise OSError (ELOOP) when a link is among the folders `inside` the root, as far as they are there."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), open_folder(self._root, inside):
            pass

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        """A descriptor of the file, which must be a plain one: no link out of the run's folder, no pipe that hangs."""
        with _translated(f"cannot read {self._path(key)}"):
            try:
                with open_file(self._root, key) as descriptor:
                    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                        raise Damaged(key, "it is not a plain file")
                    yield descriptor
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise Damaged(key, f"{error.strerror}, which is never followed") from None
                raise


def _is_same(temporary: Path, target: Path) -> bool:
    try:
        return temporary.samefile(target)
    except FileNotFoundError:
        return False


def _is_void(folder: Path) -> bool:
    """Nothing in it but temporaries, and folders of the same kind."""
    return all(
        _is_void(Path(item.path)) if item.is_dir(follow_symlinks=False) else _TEMPORARY.fullmatch(item.name)
        for item in list(os.scandir(folder))
    )


def _entry(prefix: str, item: os.DirEntry[str]) -> Entry | None:
    """None for one that was removed since the folder was read."""
    if item.is_dir(follow_symlinks=False):
        return Entry(f"{prefix}{item.name}/", 0)
    try:
        return Entry(f"{prefix}{item.name}", item.stat(follow_symlinks=False).st_size)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _translated(what: str, absent: type[NotFound | StorageUnavailable] = NotFound) -> Iterator[None]:
    """OSError in our words; `absent` is what a file that is not there means here."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and absent is NotFound:
            message = f"{what}: no such file"
            raise NotFound(message) from None
        advice = _ADVICE.get(error.errno or 0)
        message = f"{what}: {error.strerror}" + (f"; {advice}" if advice else "")
        raise StorageUnavailable(message) from error
