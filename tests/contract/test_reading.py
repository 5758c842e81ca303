"""What any storage promises to those who read: exact ranges, honest listings, and no outage that looks like nothing."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from relight.storage.backends.base import Backend, Entry
from relight.storage.backends.open import open_backend
from relight.storage.errors import AlreadyExists, NotFound, StorageError

DATA: Final = bytes(range(100))


@pytest.mark.parametrize("start", [0, 1, 50, 99, 100, 101, 1 << 40])
@pytest.mark.parametrize("length", [0, 1, 50, 100, 1000, None])
def test_a_range_is_exactly_what_was_asked_for_up_to_the_end(backend: Backend, start: int, length: int | None) -> None:
    backend.put("key", DATA)
    expected = DATA[start:] if length is None else DATA[start : start + length]
    assert backend.read("key", start, length) == expected
    buffer = bytearray(b"\xee" * (100 if length is None else length))
    assert backend.read_into("key", start, memoryview(buffer)) == len(expected)
    assert buffer == expected.ljust(len(buffer), b"\xee")


def test_a_range_far_larger_than_the_object_costs_no_memory(backend: Backend) -> None:
    backend.put("key", DATA)
    assert backend.read("key", 0, 1 << 50) == DATA


@pytest.mark.parametrize("act", ["read", "read_into", "size"])
def test_what_is_not_there_is_said_by_name(backend: Backend, act: str) -> None:
    backend.put("folder/other", b"")
    arguments = {"read_into": (0, memoryview(bytearray(1)))}.get(act, ())
    for key in ("folder/key", "nowhere/key"):
        with pytest.raises(NotFound) as missing:
            getattr(backend, act)(key, *arguments)
        assert str(missing.value) == f"cannot read {backend.url}/{key}: no such file"


def test_a_listing_shows_the_children_and_nothing_deeper(backend: Backend) -> None:
    for key, size in {"b": 3, "a/x": 1, "a/y/z": 1, "a.txt": 2, "ab/x": 5}.items():
        backend.put(key, b"." * size)
    assert backend.list("") == [Entry("a.txt", 2), Entry("a/", 0), Entry("ab/", 0), Entry("b", 3)]
    assert backend.list("a/") == [Entry("a/x", 1), Entry("a/y/", 0)]
    assert backend.list("a/y/") == [Entry("a/y/z", 1)]


def test_a_folder_that_does_not_exist_is_empty(backend: Backend) -> None:
    assert backend.list("") == []
    assert backend.list("nowhere/") == []
    backend.put("folder/key", b"")
    assert backend.list("folde/") == []


@pytest.mark.parametrize("prefix", ["a", "/", "a//", "../", "a/../", "./", "a/b", "\0/"])
def test_a_prefix_that_is_no_folder_is_refused(backend: Backend, prefix: str) -> None:
    text = f"{prefix!r} is not a folder in storage: it must be empty or a relative path of plain names, ending in /"
    for act in (backend.list, backend.settle):
        with pytest.raises(StorageError) as refused:
            act(prefix)
        assert str(refused.value) == text


@pytest.mark.parametrize("name", ["with space", "per%20cent", "$&+,:;=?@#*", "ünïcode-名前", "-dash", "a" * 180])
def test_a_name_comes_back_as_it_was_given(backend: Backend, name: str) -> None:
    backend.put(f"folder/{name}", b"data")
    assert backend.list("folder/") == [Entry(f"folder/{name}", 4)]
    assert backend.read(f"folder/{name}") == b"data"
    backend.delete(f"folder/{name}")
    assert backend.list("folder/") == []


KEYS: Final = st.sampled_from(["a", "b/c", "b/d", "b/e/f", "b/e/g", "h/i"])
CONTENT: Final = st.binary(max_size=20)


class AgainstADictionary(RuleBasedStateMachine):
    """Any order of calls has the outcome that a dictionary would have."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.backend = open_backend(self.url)
        self.model: dict[str, bytes] = {}
        for key in ("a", "b/c", "b/d", "b/e/f", "b/e/g", "h/i"):
            self.backend.delete(key)

    @rule(key=KEYS, data=CONTENT)
    def put(self, key: str, data: bytes) -> None:
        try:
            self.backend.put(key, data)
        except AlreadyExists:
            assert key in self.model
        else:
            assert self.model.setdefault(key, data) is data

    @rule(key=KEYS, data=CONTENT)
    def overwrite(self, key: str, data: bytes) -> None:
        self.backend.put(key, data, overwrite=True)
        self.model[key] = data

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.backend.delete(key)
        self.model.pop(key, None)

    @rule(key=KEYS, start=st.integers(0, 25), length=st.integers(0, 25))
    def read(self, key: str, start: int, length: int) -> None:
        try:
            data = self.backend.read(key, start, length)
        except NotFound:
            assert key not in self.model
        else:
            assert data == self.model[key][start : start + length]

    @invariant()
    def listings_agree(self) -> None:
        for prefix in ("", "b/", "b/e/", "h/"):
            files = [entry for entry in self.backend.list(prefix) if not entry.key.endswith("/")]
            inside = {key: data for key, data in self.model.items() if key.startswith(prefix)}
            expected = [Entry(key, len(data)) for key, data in inside.items() if "/" not in key.removeprefix(prefix)]
            assert files == sorted(expected)


def test_any_order_of_calls_has_the_outcome_that_a_dictionary_would_have(url: str) -> None:
    machine = type("Machine", (AgainstADictionary,), {"url": url})
    examples = 5 if url.startswith("s3://") else 30  # Each costs some hundred requests.
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None))
