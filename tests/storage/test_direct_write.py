"""Large writes go past the page cache where that is possible, and every write is whole, wherever and whatever it is."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.storage.backends.disk import Disk
from relight.storage.backends.page_cache import cached_bytes

MIB = 1 << 20
SIZES = [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, MIB + 4095, MIB + 4096, 3 * MIB + 4097]


def pages(size: int) -> memoryview:
    """Memory that starts on a page, as an arena's does, filled with what repeats only after 251 bytes."""
    memory = memoryview(mmap.mmap(-1, max(size, 1)))[:size]
    memory[:] = (bytes(range(251)) * (size // 251 + 1))[:size]
    return memory


def cached(path: Path) -> int:
    with path.open("rb") as file:
        return cached_bytes(file.fileno(), 0, path.stat().st_size)


@pytest.fixture
def takes_direct(tmp_path: Path) -> None:
    """Skips where the filesystem of the tests has no O_DIRECT, or the kernel does not tell what it caches."""
    (tmp_path / "buffered").write_bytes(bytes(MIB))
    if not cached(tmp_path / "buffered"):
        pytest.skip("needs cachestat(2), Linux 6.5")
    try:
        os.close(os.open(tmp_path / "buffered", os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("needs a filesystem with O_DIRECT")
    if b"tmpfs" in subprocess.run(["stat", "-f", "-c", "%T", tmp_path], check=True, stdout=subprocess.PIPE).stdout:
        pytest.skip("tmpfs is all cache")


@pytest.fixture
def in_ram(tmp_path: Path) -> Iterator[Path]:
    """A filesystem that refuses O_DIRECT."""
    folder = tmp_path / "ram"
    folder.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "relight-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", SIZES)
def test_every_length_is_written_whole(tmp_path: Path, size: int) -> None:
    data = pages(size)
    Disk().write_new(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("size", SIZES)
def test_memory_that_starts_anywhere_is_written_whole(tmp_path: Path, size: int) -> None:
    data = pages(size + 3)[3:]
    Disk().write_new(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: data.cast("I")], ids=["bytes", "bytearray", "words"])
def test_any_kind_of_bytes_is_written_whole(tmp_path: Path, kind: type[bytes]) -> None:
    data = pages(2 * MIB + 4)
    Disk().write_new(tmp_path / "file", kind(data))
    assert (tmp_path / "file").read_bytes() == data


def test_a_large_write_leaves_the_page_cache_to_others(tmp_path: Path, takes_direct: None) -> None:
    Disk().write_new(tmp_path / "file", pages(8 * MIB + 5))
    assert cached(tmp_path / "file") <= 2 * mmap.PAGESIZE  # What does not fill a page goes through the cache.


@pytest.mark.needs("root", "mount")
@pytest.mark.parametrize("size", SIZES)
def test_a_filesystem_that_refuses_is_written_through_the_cache(in_ram: Path, size: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        os.open(in_ram / "probe", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    data = pages(size)
    Disk().write_new(in_ram / "file", data)
    assert (in_ram / "file").read_bytes() == data


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs /dev/shm")
@pytest.mark.parametrize("size", SIZES)
def test_shared_memory_takes_every_length(size: int) -> None:
    data = pages(size)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Disk().write_new(Path(folder) / "file", data)
        assert (Path(folder) / "file").read_bytes() == data


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"first")
    with pytest.raises(FileExistsError):
        Disk().write_new(tmp_path / "file", pages(2 * MIB))
    assert (tmp_path / "file").read_bytes() == b"first"


def test_a_limit_in_the_middle_of_a_large_write_is_an_error(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB + 5, hard))
    try:
        with pytest.raises(OSError, match="File too large") as failed:
            Disk().write_new(tmp_path / "file", pages(4 * MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed.value.errno == errno.EFBIG
