"""What any storage promises to those who write: whole or not at all, once, and seen by everybody at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from relight.storage.backends.base import Backend, Bytes
from relight.storage.backends.open import open_backend
from relight.storage.errors import AlreadyExists, NotFound, StorageError
from relight.tests.contract.racing import race

BAD_KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\0b", "a/.."]


@pytest.mark.parametrize(
    "data",
    [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), memoryview(b"12345678").cast("I"), b""],
    ids=["bytes", "bytearray", "memoryview", "memoryview of integers", "nothing"],
)
def test_what_was_put_is_read(backend: Backend, data: Bytes) -> None:
    backend.put("folder/key", data)
    assert backend.read("folder/key") == bytes(data)


def test_an_object_larger_than_any_buffer_comes_back_whole(backend: Backend) -> None:
    data = bytes(range(256)) * (40 << 12)
    backend.put("large", data)
    assert backend.size("large") == len(data) == 40 << 20
    assert backend.read("large") == data


def test_a_second_put_is_refused_and_changes_nothing(backend: Backend) -> None:
    backend.put("folder/key", b"first")
    with pytest.raises(AlreadyExists) as refused:
        backend.put("folder/key", b"second")
    assert str(refused.value) == f"{backend.url}/folder/key exists already and is never overwritten"
    assert backend.read("folder/key") == b"first"


def test_an_overwrite_replaces_the_whole_object(backend: Backend) -> None:
    backend.put("key", b"long and old", overwrite=True)
    backend.put("key", b"new", overwrite=True)
    assert backend.read("key") == b"new"


def test_of_many_processes_that_put_the_same_key_exactly_one_succeeds(shared_url: str) -> None:
    backend = open_backend(shared_url)
    processes, rounds = (5, 3) if shared_url.startswith("s3://") else (16, 8)  # A client of S3 costs a second to start.
    for round_, won in enumerate(race("put", shared_url, processes=processes, rounds=rounds)):
        assert sum(won) == 1
        assert backend.read(f"race/{round_}") == bytes([won.index(True)]) * 100_000


def test_a_reader_beside_a_writer_sees_whole_objects_only(url: str) -> None:
    versions = {bytes([number]) * (number * 50_000) for number in range(1, 9)}
    writer, reader = open_backend(url), open_backend(url)
    writer.put("key", max(versions), overwrite=True)
    done = threading.Event()

    def write() -> None:
        for _ in range(6):
            for version in sorted(versions):
                writer.put("key", version, overwrite=True)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not done.is_set():
            assert reader.read("key") in versions
        writing.result()
    assert [entry.key for entry in reader.list("")] == ["key"]


def test_one_backend_serves_several_threads(backend: Backend) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: backend.put(f"a/{number % 4}/{number}", b"%d" % number), range(64)))
    assert [backend.read(f"a/{number % 4}/{number}") for number in range(64)] == [b"%d" % n for n in range(64)]


def test_others_see_at_once_what_was_put_and_deleted(url: str) -> None:
    one, other = open_backend(url), open_backend(url)
    assert other.list("folder/") == []
    one.put("folder/key", b"data")
    assert other.read("folder/key") == b"data"
    assert [entry.key for entry in other.list("folder/")] == ["folder/key"]
    other.delete("folder/key")
    assert one.list("folder/") == []
    with pytest.raises(NotFound):
        one.size("folder/key")


def test_a_deleted_object_is_gone_and_its_neighbours_are_not(backend: Backend) -> None:
    for key in ("a/b/c/gone", "a/b/stays", "a/b/c2/stays"):
        backend.put(key, b"data")
    backend.delete("a/b/c/gone")
    with pytest.raises(NotFound):
        backend.read("a/b/c/gone")
    left = [entry.key for entry in backend.list("a/b/") if entry.key != "a/b/c/"]  # It is empty and may be shown.
    assert left == ["a/b/c2/", "a/b/stays"]
    assert backend.list("a/b/c/") == []


def test_a_key_may_be_used_again_after_its_deletion(backend: Backend) -> None:
    backend.put("a/b/key", b"first")
    backend.delete("a/b/key")
    backend.put("a/b/key", b"second")
    assert backend.read("a/b/key") == b"second"


def test_deleting_what_is_not_there_is_no_error(backend: Backend) -> None:
    backend.delete("neither/folder/nor/key")
    backend.put("folder/key", b"data")
    backend.delete("folder/other")
    assert backend.read("folder/key") == b"data"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_could_leave_the_folder_is_refused(backend: Backend, key: str) -> None:
    acts: list[Callable[[], object]] = [
        lambda: backend.put(key, b""),
        lambda: backend.put(key, b"", overwrite=True),
        lambda: backend.read(key),
        lambda: backend.read_into(key, 0, memoryview(bytearray(1))),
        lambda: backend.size(key),
        lambda: backend.delete(key),
    ]
    for act in acts:
        with pytest.raises(StorageError) as refused:
            act()
        assert str(refused.value) == f"{key!r} is not a storage key: it must be a relative path of plain names"


def test_settling_is_possible_anywhere(backend: Backend) -> None:
    backend.settle("")
    backend.settle("folder/")
    backend.put("folder/key", b"data")
    backend.settle("folder/")
    backend.settle("")
    assert backend.read("folder/key") == b"data"
