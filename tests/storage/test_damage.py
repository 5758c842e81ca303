"""Every bit of a checkpoint counts: whichever one flips, it is seen, and the checkpoint before is taken."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from relight.storage import generations, runs
from relight.storage.backends.base import Bytes, Entry
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Standing
from relight.storage.digest import digest
from relight.storage.errors import Damaged
from relight.storage.manifest import Manifest
from relight.storage.verify import verify
from relight.tests.storage.checkpoints import attempt_id, save


class InMemory(LocalBackend):
    """What a folder held when it was read; one object may be replaced by other bytes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.objects = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self._entries: dict[str, list[Entry]] = {}

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        return bytes(self.objects[key][start : None if length is None else start + length])

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        data = self.objects[key][start : start + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def size(self, key: str) -> int:
        return len(self.objects[key])

    def list(self, prefix: str) -> list[Entry]:
        """A flip changes no size, so listings stay as they were."""
        if prefix not in self._entries:
            self._entries[prefix] = super().list(prefix)
        return self._entries[prefix]

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        raise AssertionError("nothing is ever repaired in place")


def best(backend: LocalBackend) -> tuple[int, str] | None:
    """Step and digest of what a resume would take: the first candidate of which every byte is proven."""
    for checkpoint in Catalog(backend).committed():
        if not verify(backend, checkpoint.manifest):
            return checkpoint.step, digest(backend, checkpoint.manifest)
    return None


@pytest.fixture
def run(tmp_path: Path) -> InMemory:
    """Two checkpoints of one rank each, the records beside them, in memory."""
    backend = LocalBackend(tmp_path)
    runs.register(backend, {"name": "digits"})
    generations.claim(backend, incarnation="one", resumed_from=None, host="here")
    for step in (10, 20):
        save(backend, attempt_id(step), world_size=1)
    return InMemory(tmp_path)


def is_seen(backend: InMemory, key: str, newest: Manifest) -> bool:
    """Whether the newest checkpoint, of which `key` was changed, is known to be damaged."""
    if key == newest.id.manifest_key:
        return next(Catalog(backend).listing()).standing is Standing.DAMAGED
    return bool(verify(backend, newest))


def test_every_bit_of_a_checkpoint_that_flips_is_seen_and_the_one_before_is_taken(
    run: InMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    before, flips, fallbacks = best(run), 0, 0
    newest = Catalog(run).find(20).manifest
    older = best_without(run, 20)
    for key in [key for key in run.objects if key.startswith(attempt_id(20).folder)]:
        whole = run.objects[key]
        flipped = bytearray(whole)
        run.objects[key] = flipped  # type: ignore[assignment]
        for position in range(len(whole)):
            for bit in range(8):
                flipped[position] = whole[position] ^ 1 << bit
                assert is_seen(run, key, newest), f"bit {bit} of byte {position} of {key}"
                flips += 1
                if bit == position % 8 and position % 16 < 2:
                    assert best(run) == older
                    fallbacks += 1
            flipped[position] = whole[position]
        run.objects[key] = whole
    assert best(run) == before
    with capsys.disabled():
        print(
            f"\nflips in a checkpoint: {flips} bits, all seen; {fallbacks} resumes, all from the one before; "
            f"{time.monotonic() - began:.1f} s"
        )


def best_without(backend: InMemory, step: int) -> tuple[int, str] | None:
    key = attempt_id(step).manifest_key
    whole, backend.objects[key] = backend.objects[key], b""
    try:
        return best(backend)
    finally:
        backend.objects[key] = whole


def test_every_bit_of_the_records_that_flips_is_seen(
    run: InMemory, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    flips = 0
    for key in ("run.json", "generations/00000001.json"):
        whole = run.objects[key]
        for number in range(len(whole) * 8):
            flipped = bytearray(whole)
            flipped[number // 8] ^= 1 << number % 8
            run.objects[key] = bytes(flipped)
            if key == "run.json":
                with pytest.raises(Damaged):
                    runs.read(run)
            else:
                assert generations.read_all(run) == {1: None}
            flips += 1
        run.objects[key] = whole
        caplog.clear()
    with capsys.disabled():
        print(f"\nflips in the records: {flips} bits, all seen")


def test_every_cut_of_every_file_is_seen(run: InMemory, capsys: pytest.CaptureFixture[str]) -> None:
    older, newest, cuts = best_without(run, 20), Catalog(run).find(20).manifest, 0
    for key in [key for key in run.objects if key.startswith(attempt_id(20).folder)]:
        whole = run.objects[key]
        for length in {*range(0, len(whole), 37), len(whole) - 1}:
            run.objects[key] = whole[:length]
            assert is_seen(run, key, newest)
            cuts += 1
        assert best(run) == older
        run.objects[key] = whole
    with capsys.disabled():
        print(f"\ncuts: {cuts}, all seen")
