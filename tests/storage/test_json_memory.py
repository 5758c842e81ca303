"""What a JSON document may take as Python's objects: bounded for the worst that anybody can put there."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Callable
from typing import Final

import pytest

from relight.storage import sealed, shards
from relight.storage.errors import Damaged, StorageError
from relight.storage.generations import GenerationRecord
from relight.storage.manifest import Manifest, Progress, Record, ShardEntry
from relight.storage.receipts import Receipt
from relight.storage.runs import RunRecord

MIB: Final = 1 << 20
MOST: Final[dict[type[Record], int]] = {
    RunRecord: 1 * MIB,
    GenerationRecord: 1 * MIB,
    Manifest: 96 * MIB,
    Receipt: 112 * MIB,
}
MOST_FOR_A_HEADER: Final = 300 * MIB

in_sixteenths = pytest.mark.parametrize(
    "share",
    [pytest.param(16, id="a sixteenth of the limits"), pytest.param(1, id="the limits", marks=pytest.mark.soak)],
)
"""Everything is in proportion, but for the speed of the tests."""


def memory(read: Callable[[], object]) -> int:
    """Bytes at the peak."""
    tracemalloc.start()
    try:
        with contextlib.suppress(Damaged):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def filled(unit: bytes, size: int) -> bytes:
    head, tail = b'{"checksum": "0", "record": {"a": [', b"0]}}"
    return head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


def longest_manifest(share: int) -> Manifest:
    ranks = range(82_000 // share)
    entries = tuple(ShardEntry(rank=rank, size=1 << 30, root=f"{rank:032x}") for rank in ranks)
    progress = Progress(epoch=0, step=1, samples=1)
    return Manifest(
        run="r",
        step=1,
        generation=1,
        attempt=1,
        nonce="abcdef",
        token="t",
        saved_at="",
        progress=progress,
        shards=entries,
    )


@pytest.mark.parametrize("kind", MOST, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "unit",
    [
        b'{"a":0},',
        b"[],",
        b"1.5,",
        b'{"a":0},'.ljust(64),
        b'{"ab":"abc"},1.5,"abc",'.ljust(64),
        b'"abc",'.ljust(20),
    ],
)
@in_sixteenths
def test_no_record_takes_more_than_the_largest_of_ours(
    kind: type[Record], unit: bytes, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As dense as it may be, and denser."""
    monkeypatch.setattr(kind, "max_bytes", kind.max_bytes // share)
    raw = filled(unit, kind.max_bytes)
    assert memory(lambda: kind.from_bytes(raw, "key")) <= MOST[kind] // share + 2 * MIB


@in_sixteenths
def test_a_record_with_the_right_checksum_and_nothing_else_right_takes_no_more(
    share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Manifest, "max_bytes", Manifest.max_bytes // share)
    raw = sealed.seal({"a": ["abcdefghijklmno"] * (Manifest.max_bytes // 23)})
    assert len(raw) <= Manifest.max_bytes
    assert memory(lambda: Manifest.from_bytes(raw, "key")) <= MOST[Manifest] // share + 2 * MIB


@in_sixteenths
def test_the_largest_manifest_is_read_and_a_larger_one_refused_at_save_time(
    share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Manifest, "max_bytes", Manifest.max_bytes // share)
    manifest = longest_manifest(share)
    raw = manifest.to_bytes()
    assert len(raw) > 0.9 * Manifest.max_bytes
    taken = memory(lambda: Manifest.from_bytes(raw, "key"))
    print(f"a manifest of {len(raw)} bytes ({manifest.world_size} ranks) takes {taken / MIB:.0f} MiB")
    assert taken <= MOST[Manifest] // share + 2 * MIB
    with pytest.raises(StorageError) as refused:
        manifest.model_copy(update={"shards": manifest.shards * 2}).to_bytes()
    assert str(refused.value) == (
        f"no reader would take the manifest of this checkpoint: it is longer than {Manifest.max_bytes} bytes. "
        "Keep fewer metrics, or spread the checkpoint over more ranks"
    )


def header(text: str) -> bytes:
    raw = f'{{"__metadata__":{{"relight.pieces":"{{}}","relight.state":{json.dumps(text)}}}}}'.encode()
    return len(raw).to_bytes(8, "little") + raw


@pytest.mark.parametrize("dense", ["objects", "objects and texts", "too many lists"])
@in_sixteenths
def test_no_header_takes_more_than_is_said(dense: str, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    containers, values = shards.MAX_HEADER_CONTAINERS // share, shards.MAX_HEADER_VALUES // share
    monkeypatch.setattr(shards, "MAX_HEADER_CONTAINERS", containers)
    monkeypatch.setattr(shards, "MAX_HEADER_VALUES", values)
    objects, texts, lists = '{"ab":0},' * (containers - 8), '"abc",' * (values - containers), "[]," * (4 * containers)
    state = {"objects": objects, "objects and texts": objects + texts, "too many lists": lists}[dense]
    raw = header(f'{{"a":[{state}0]}}')
    taken = memory(lambda: shards.parse(raw, len(raw), "key"))
    print(f"a header of {len(raw)} bytes takes {taken / MIB:.0f} MiB")
    assert taken <= MOST_FOR_A_HEADER // share + 2 * MIB
