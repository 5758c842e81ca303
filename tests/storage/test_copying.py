"""A copy is the same run elsewhere: proven on the way, committed there as a save is, and nothing before that."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from relight.storage import generations, runs
from relight.storage.arrangement import plan
from relight.storage.backends.base import Backend, TakesStreams
from relight.storage.backends.local import LocalBackend
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog, Standing
from relight.storage.checksum import BLOCK_BYTES
from relight.storage.copying import Copier, ProvenShard, find, lies_at
from relight.storage.digest import digest
from relight.storage.errors import Damaged, NotExclusive, OtherRun, StorageUnavailable, Superseded
from relight.storage.persist import persist
from relight.storage.reading import ShardReader
from relight.storage.shards import Piece
from relight.storage.verify import verify
from relight.tests.servers import BUCKET, Server, environment, rclone
from relight.tests.storage.checkpoints import attempt_id, job, persist_rank, steps
from relight.tests.storage.faults import FailingDisk
from relight.tests.verbs.places import flip, make_run, shard

BLOCKS = 7


def copied(source: LocalBackend, place: Backend, *which: int) -> Copier:
    copier = Copier(source, place)
    copier.take(runs.read(source))
    for step in which:
        copier.copy(Catalog(source).find(step).manifest)
    return copier


def large(root: Path) -> LocalBackend:
    """A run with one checkpoint of one shard, of 7 blocks and a bit."""
    backend = make_run(root)
    layout = plan([Piece.whole("w", "U8", (BLOCKS * BLOCK_BYTES,))], {})
    data = memoryview(bytearray(layout.header.ljust(layout.size, b"\x55")))
    assert persist(backend, job(attempt_id(10), world_size=1, run=runs.read(backend).run), data).committed
    return backend


def test_a_copy_has_the_same_state_and_the_same_run_under_a_generation_of_its_own(tmp_path: Path) -> None:
    source, place = make_run(tmp_path / "run", 10, 20), LocalBackend(tmp_path / "copy")
    copied(source, place, 20)
    assert runs.read(place) == runs.read(source)
    ours, theirs = Catalog(source).find(20).manifest, Catalog(place).find().manifest
    assert verify(place, theirs) == []
    assert digest(place, theirs) == digest(source, ours)
    assert (theirs.shards, theirs.progress, theirs.saved_at) == (ours.shards, ours.progress, ours.saved_at)
    assert theirs.generation == 1
    assert find(ours, [theirs]) == theirs
    for rank in range(2):
        assert shard(tmp_path / "copy", theirs, rank).read_bytes() == shard(tmp_path / "run", ours, rank).read_bytes()


def test_what_is_added_later_fences_nothing_that_is_there(tmp_path: Path) -> None:
    source, place = make_run(tmp_path / "run", 10, 20, 30), LocalBackend(tmp_path / "copy")
    copied(source, place, 20)
    copied(source, place, 10, 30)
    assert steps(place) == [30, 20, 10]
    assert {number: each and each.resumed_from for number, each in generations.read_all(place).items()} == {
        1: None,
        2: 20,
    }


def test_a_launcher_that_goes_on_with_the_copy_stops_the_copier(tmp_path: Path) -> None:
    source, place = make_run(tmp_path / "run", 10, 20), LocalBackend(tmp_path / "copy")
    copier = copied(source, place, 10)
    generations.claim(place, incarnation="a launcher", resumed_from=10, host="here")
    with pytest.raises(Superseded):
        copier.copy(Catalog(source).find(20).manifest)
    assert [each.standing for each in Catalog(place).listing()] == [Standing.COMMITTED]


def test_another_run_and_somebody_s_files_are_refused_and_left_as_they_are(tmp_path: Path) -> None:
    source, other = make_run(tmp_path / "run", 10), make_run(tmp_path / "other", name="digits")
    files = LocalBackend(tmp_path / "files")
    files.put("thesis.tex", b"mine")
    for place, says in ((other, "holds another run (name=digits)"), (files, "is not empty and holds no run")):
        before = set(Path(place.url).rglob("*"))
        with pytest.raises(OtherRun, match="Nothing was changed") as refused:
            Copier(source, place).take(runs.read(source))
        assert says in str(refused.value)
        assert set(Path(place.url).rglob("*")) == before
    assert lies_at(source, runs.read(source))


@pytest.mark.parametrize(
    "harm",
    [
        lambda root, manifest: flip(shard(root, manifest, 1)),
        lambda root, manifest: os.truncate(shard(root, manifest, 0), 50),
        lambda root, manifest: shard(root, manifest, 1).unlink(),
        lambda root, manifest: (root / manifest.id.receipt_key(0)).unlink(),
    ],
)
def test_a_damaged_checkpoint_is_never_copied(tmp_path: Path, harm: Callable[..., None]) -> None:
    source, place = make_run(tmp_path / "run", 10), LocalBackend(tmp_path / "copy")
    copier = copied(source, place)
    manifest = Catalog(source).find().manifest
    harm(tmp_path / "run", manifest)
    with pytest.raises(Damaged):
        copier.copy(manifest)
    assert Catalog(place).attempts() == []
    assert not list((tmp_path / "copy").rglob("*.safetensors"))


class Cut(BaseException):
    """The power is gone: nothing is tidied by whoever had it."""


class DiesAt(FailingDisk):
    """At the `times`-th operation of any kind the process is gone."""

    def _may_fail(self, operation: str, path: Path) -> None:
        self.fired += 1
        if self.fired >= self.times:
            raise Cut

    def write_stream(self, path: Path, source: object) -> None:
        self._may_fail("write_stream", path)
        super().write_stream(path, source)  # type: ignore[arg-type]


def test_wherever_it_breaks_off_there_is_the_whole_checkpoint_or_none_and_the_next_one_sweeps(tmp_path: Path) -> None:
    source = make_run(tmp_path / "run", 10)
    committed = broken_off = 0
    for times in range(1, 1000):
        root = tmp_path / f"copy-{times}"
        try:
            copied(source, LocalBackend(root, DiesAt("", errno.EIO, times=times)), 10)
        except Cut:
            broken_off += 1
        else:
            break
        found = steps(LocalBackend(root))
        assert found in ([], [10])
        committed += bool(found)
        place = LocalBackend(root)
        copied(source, place, *([] if found else [10]))
        assert [each.standing for each in Catalog(place).listing()] == [Standing.COMMITTED], times
        assert verify(place, Catalog(place).find().manifest) == []
        assert len(list(root.glob("checkpoints/*"))) == 1
    assert broken_off > 50
    assert committed >= 1


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    source = make_run(tmp_path / "run", 10)
    place = LocalBackend(tmp_path / "copy", FailingDisk("link", errno.ENOSPC, where="00001-of-00002"))
    copier = copied(source, place)
    with pytest.raises(StorageUnavailable, match="free some space"):
        copier.copy(Catalog(source).find().manifest)
    assert Catalog(place).attempts() == []
    assert not list((tmp_path / "copy/checkpoints").rglob("*"))


def test_what_an_earlier_writer_may_still_be_writing_in_a_later_generation_is_not_swept(tmp_path: Path) -> None:
    source, place = make_run(tmp_path / "run", 10), LocalBackend(tmp_path / "copy")
    copied(source, place)
    persist_rank(place, attempt_id(5, generation=1), 1)
    persist_rank(place, attempt_id(6, generation=9), 1)
    copied(source, place, 10)
    assert [(each.step, each.generation) for each in Catalog(place).attempts()] == [(10, 2), (6, 9)]


def test_any_stretch_of_a_shard_is_what_the_file_holds_and_is_counted(tmp_path: Path) -> None:
    source = large(tmp_path / "run")
    manifest = Catalog(source).find().manifest
    whole, counted = shard(tmp_path / "run", manifest).read_bytes(), [0]

    def count(length: int) -> None:
        counted[0] += length

    proven = ProvenShard(ShardReader(source, manifest, 0), count)
    assert len(proven) == len(whole)
    for stretch in (slice(0, 0), slice(0, 10), slice(BLOCK_BYTES - 1, 3 * BLOCK_BYTES + 1), slice(None)):
        counted[0] = 0
        assert proven[stretch] == whole[stretch]
        assert counted[0] == len(whole[stretch])


def test_a_bit_that_flips_while_it_is_copied_leaves_nothing_to_be_seen(tmp_path: Path) -> None:
    source, place = large(tmp_path / "run"), LocalBackend(tmp_path / "copy")
    copier = copied(source, place)
    manifest = Catalog(source).find().manifest
    flip(shard(tmp_path / "run", manifest), 5 * BLOCK_BYTES + 3)
    with pytest.raises(Damaged, match="the checksum of block 5"):
        copier.copy(manifest)
    assert not [path for path in (tmp_path / "copy/checkpoints").rglob("*") if path.is_file()]


@pytest.mark.needs("weed")
def test_a_run_goes_to_an_object_store_and_comes_back(tmp_path: Path, seaweed: Server) -> None:
    source, back = large(tmp_path / "run"), LocalBackend(tmp_path / "back")
    with environment(seaweed.environment):
        first, second = (open_backend(f"s3://{BUCKET}/copying-{number}") for number in "12")
        assert isinstance(first, TakesStreams)
        for here, there in ((source, first), (first, second), (second, back)):
            copier = Copier(here, there)
            copier.take(runs.read(here))
            copier.copy(Catalog(here).find().manifest)
    assert digest(back, Catalog(back).find().manifest) == digest(source, Catalog(source).find().manifest)


def test_a_store_that_takes_no_streams_gets_a_shard_as_a_whole(tmp_path: Path) -> None:
    source, place = large(tmp_path / "run"), open_backend(f"memory://{tmp_path.name}/copy")
    assert not isinstance(place, TakesStreams)
    copied(source, place, 10)
    assert verify(place, Catalog(place).find().manifest) == []


@pytest.mark.needs("rclone")
def test_a_store_that_refuses_no_second_write_is_not_copied_to_unless_vouched_for(tmp_path: Path) -> None:
    source = make_run(tmp_path / "run", 10)
    with rclone(tmp_path / "server") as server, environment(server.environment):
        place = open_backend("s3://bucket/copy")
        with pytest.raises(NotExclusive):
            Copier(source, place).take(runs.read(source))
        assert place.list("") == []
        Copier(source, place).take(runs.read(source), single_writer=True)
        assert lies_at(place, runs.read(source))
