"""The buffers that are staged into: used again, spared while they are read, found again by the next worker."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.storage.layout import AttemptId
from relight.storage.receipts import Receipt
from relight.storage.staged import Seal
from relight.workers.checkpoint.arenas import Arena, Arenas
from relight.workers.checkpoint.leftovers import sealed

MIB = 1 << 20


class Reader:
    """Stands for the persister: reads the arenas that it was handed."""

    def __init__(self) -> None:
        self.reading: set[int] = set()

    def holds(self, descriptor: int) -> bool:
        return descriptor in self.reading


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = Path("/dev/shm") / f"relight-test-{os.getpid()}"
    path.mkdir()
    yield path
    for left in path.iterdir():
        left.unlink()
    path.rmdir()


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A memory filesystem as small as containers have it."""
    path = tmp_path / "shm"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def _seal(arena: Arena, step: int, content: bytes = b"state") -> None:
    arena.staged(len(content)).view[:] = content
    receipt = Receipt(rank=0, size=len(content), blocks=("0" * 32,))
    id_ = AttemptId(step, 1, 1, "00aabb")
    assert arena.seal is not None
    Seal(run="r", token="t", step=step, generation=1, attempt=1, nonce=id_.nonce, world_size=1, receipt=receipt).write(
        arena.seal
    )


def test_an_arena_is_used_again_and_grows_only_when_it_must() -> None:
    arenas = Arenas(1, 0, None, Reader().holds)
    first = arenas.take(MIB)
    assert first is not None
    assert arenas.take(MIB + 100) is first  # There is some room to grow.
    larger = arenas.take(3 * MIB)
    assert larger is not None
    assert larger is not first
    assert larger.size >= 3 * MIB


def test_memory_is_made_ahead_and_no_more_of_it_than_is_needed(folder: Path) -> None:
    kept, anonymous = Arenas(2, 0, folder, Reader().holds), Arenas(2, 0, None, Reader().holds)
    for arenas in (kept, anonymous):
        arenas.prepare(MIB)
        arenas.prepare(MIB)
        assert arenas.take(MIB) is not None
        assert arenas.take(MIB) is not None
    assert [len(arenas._arenas) for arenas in (kept, anonymous)] == [2, 1]
    assert len(list(folder.glob("*.arena"))) == 2


def test_two_arenas_take_turns_so_that_the_newest_stays_whole(folder: Path) -> None:
    arenas = Arenas(2, 0, folder, Reader().holds)
    taken = [arenas.take(MIB) for _ in range(5)]
    assert taken[0] is taken[2] is taken[4]
    assert taken[1] is taken[3] is not taken[0]


def test_what_is_read_is_never_given_out(folder: Path) -> None:
    reader = Reader()
    arenas = Arenas(2, 0, folder, reader.holds)
    first, second = arenas.take(MIB), arenas.take(MIB)
    assert first
    assert second
    reader.reading = {first.descriptor}
    assert arenas.take(MIB) is second  # Though it is the newest: the older one is whole.
    reader.reading = {first.descriptor, second.descriptor}
    assert not arenas.has_free()
    assert arenas.take(MIB) is None
    reader.reading.clear()
    assert arenas.take(MIB) is first


def test_a_taken_arena_is_unsealed_before_it_is_written(folder: Path) -> None:
    arenas = Arenas(1, 0, folder, Reader().holds)
    arena = arenas.take(MIB)
    assert arena is not None
    _seal(arena, 5)
    assert [seal.step for seal, _ in sealed(0, folder)] == [5]
    assert arenas.take(MIB) is arena
    assert list(sealed(0, folder)) == []


def test_the_next_worker_finds_what_was_sealed_and_spares_the_newest(folder: Path) -> None:
    old = Arenas(2, 3, folder, Reader().holds)
    for step, content in [(5, b"five"), (6, b"six")]:
        arena = old.take(MIB)
        assert arena is not None
        _seal(arena, step, content)
    assert {seal.step: bytes(memory.view) for seal, memory in sealed(3, folder)} == {5: b"five", 6: b"six"}
    assert list(sealed(0, folder)) == []  # Another rank's.
    while old._arenas:  # As the kernel does when the worker dies: nothing is taken away, the locks are let go of.
        old._arenas.pop()._memory.close()
    new = Arenas(2, 3, folder, Reader().holds)
    assert new.take(MIB) is not None
    assert [seal.step for seal, _ in sealed(3, folder)] == [6]
    assert len(list(folder.glob("*.arena"))) == 2


def test_a_torn_arena_is_taken_before_the_one_that_is_whole(folder: Path) -> None:
    old = Arenas(2, 0, folder, Reader().holds)
    torn, whole = old.take(MIB), old.take(MIB)
    assert torn is not None
    assert whole is not None
    _seal(whole, 6)
    while old._arenas:
        old._arenas.pop()._memory.close()
    assert Arenas(2, 0, folder, Reader().holds).take(MIB) is not None
    assert [seal.step for seal, _ in sealed(0, folder)] == [6]


def test_what_another_process_still_reads_is_left_alone(folder: Path) -> None:
    old = Arenas(1, 0, folder, Reader().holds)
    arena = old.take(MIB)
    assert arena is not None
    _seal(arena, 5)
    kept = os.dup(arena.descriptor)  # As a persister holds it.
    old._arenas.pop()._memory.close()
    new = Arenas(1, 0, folder, Reader().holds)
    assert new.take(MIB) is not None
    assert [seal.step for seal, _ in sealed(0, folder)] == [5]
    assert len(list(folder.glob("*.arena"))) == 2
    os.close(kept)
    Arenas(1, 0, folder, Reader().holds)
    assert len(list(folder.glob("*.arena"))) == 2  # One is in use, the other was taken over.


def test_more_than_we_may_have_is_given_back(folder: Path) -> None:
    old = Arenas(2, 0, folder, Reader().holds)
    assert old.take(MIB)
    assert old.take(MIB)
    while old._arenas:
        old._arenas.pop()._memory.close()
    Arenas(1, 0, folder, Reader().holds)
    assert len(list(folder.glob("*.arena"))) == 1


@pytest.mark.needs("root", "mount")
def test_without_room_in_the_folder_memory_is_anonymous_and_said_to_be(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], small_tmpfs: Path
) -> None:
    arenas = Arenas(2, 0, small_tmpfs, Reader().holds)
    arena = arenas.take(32 * MIB)
    assert arena is not None
    assert arena.seal is None
    assert not arenas.survive
    assert arenas.take(32 * MIB) is not None
    lines = [line for line in capfd.readouterr().err.splitlines() if "has no room" in line]
    assert len(lines) == 1
    assert re.search(
        r"rank 0: \S+ has no room for 33 MiB, staging in anonymous memory: a worker that crashes", lines[0]
    )
    assert not list(small_tmpfs.iterdir())


@pytest.mark.needs("root", "mount")
def test_a_quarter_of_the_memory_filesystem_is_left_to_others(small_tmpfs: Path) -> None:
    arenas = Arenas(2, 0, small_tmpfs, Reader().holds)
    first, second = arenas.take(4 * MIB), arenas.take(MIB)  # Of 8 MiB; each has a MiB to grow.
    assert first is not None
    assert second is not None
    assert first.seal is not None
    assert second.seal is None


@pytest.mark.parametrize("damage", ["cut seal", "short arena", "no arena"])
def test_a_seal_whose_memory_cannot_be_is_not_there(folder: Path, damage: str) -> None:
    arenas = Arenas(1, 0, folder, Reader().holds)
    arena = arenas.take(MIB)
    assert arena is not None
    _seal(arena, 5)
    assert arena.seal is not None
    if damage == "cut seal":
        arena.seal.write_bytes(arena.seal.read_bytes()[:-9])
    elif damage == "short arena":
        os.ftruncate(arena.descriptor, 1)
    else:
        arena.seal.with_suffix(".arena").unlink()
    assert list(sealed(0, folder)) == []
