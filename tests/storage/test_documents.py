"""Names and small records: one spelling each, and whatever is not exactly what was written is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.storage import sealed
from relight.storage.backends.local import LocalBackend
from relight.storage.checksum import root
from relight.storage.errors import Damaged
from relight.storage.layout import AttemptId, is_shard_name, parse_generation, shard_name
from relight.storage.manifest import Manifest, Progress, ShardEntry
from relight.storage.receipts import Receipt

HASH = "0123456789abcdef" * 2
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "run": "a-run",
        "step": 7,
        "generation": 1,
        "attempt": 1,
        "nonce": "00abcd",
        "token": "a-token",
        "saved_at": "2026-01-01T00:00:00+00:00",
        "progress": Progress(epoch=0, step=7, samples=56),
        "shards": (ShardEntry(rank=0, size=4096, root=HASH),),
    }
    return Manifest(**(values | changes))


# --- names ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**12 - 1), st.integers(0, 10**8 - 1), st.integers(0, 10**9 - 1), st.integers(0, 0xFFFFFF))
def test_an_attempt_is_found_by_its_own_name_only(step: int, generation: int, attempt: int, nonce: int) -> None:
    id_ = AttemptId(step, generation, attempt, f"{nonce:06x}")
    assert AttemptId.parse(id_.name) == id_
    for other in (id_.name.upper(), f"{id_.name} ", f"{id_.name}.backup", f"x{id_.name}", f"{id_.name}\n"):
        assert AttemptId.parse(other) is None


@pytest.mark.parametrize(
    "name",
    [
        "step-100.backup",
        "step-000000000001-g00000001-a00001-00abcd",  # The attempt's number is spelled with a zero too many.
        "step-1-g1-a1-00abcd",
        "step-000000000001-g00000001-a0001-00ABCD",
        "step-\N{ARABIC-INDIC DIGIT ONE}00000000001-g00000001-a0001-00abcd",
        "",
    ],
)
def test_a_foreign_name_is_nobodys_attempt(name: str) -> None:
    assert AttemptId.parse(name) is None


@pytest.mark.parametrize("changed", [{"step": 10**12}, {"step": -1}, {"generation": 10**8}, {"nonce": "xyz"}])
def test_an_attempt_that_nobody_would_find_again_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refused:
        dataclasses.replace(AttemptId(1, 1, 1, "00abcd"), **changed)
    assert str(refused.value).endswith("is not the name of an attempt: nobody would find it again")


def test_attempts_are_ordered_by_step_then_generation_then_attempt() -> None:
    ordered = [(1, 9, 9), (2, 1, 1), (2, 1, 2), (2, 2, 1), (10, 1, 1)]
    ids = [AttemptId(*numbers, "00abcd") for numbers in ordered]
    assert sorted([ids[3], ids[0], ids[4], ids[2], ids[1]]) == ids
    assert sorted(each.name for each in ids) == [each.name for each in ids]


def test_shards_and_generations_are_known_by_full_match() -> None:
    assert is_shard_name(shard_name(3, 8))
    assert not is_shard_name(f"{shard_name(3, 8)}.backup")
    assert parse_generation("generations/00000007.json") == 7
    for name in ("generations/7.json", "generations/00000007.json.bak", "00000007.json", "generations/x.json"):
        assert parse_generation(name) is None


# --- records ----------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_a_sealed_document_comes_back_as_it_was(body: dict[str, Any]) -> None:
    assert sealed.unseal(sealed.seal(body), "key") == body


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "it is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"{", "it is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        (b"[" * 100_000, "it is not JSON (maximum recursion depth exceeded while decoding a JSON array"),
        (b"\xff", "it is not JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"),
        (b'{"a": 1, "a": 1}', "it is not JSON (a key appears twice)"),
        (b'{"a": NaN}', "it is not JSON (NaN is not a JSON number)"),
        (b'{"a": -Infinity}', "it is not JSON (-Infinity is not a JSON number)"),
        (b"9" * 5000, "it is not JSON (Exceeds the limit (4300 digits) for integer string conversion"),
        (b"[]", "its checksum does not match its content"),
        (b'{"record": {}}', "its checksum does not match its content"),
        (b'{"checksum": "", "record": {}}', "its checksum does not match its content"),
        (sealed.seal({"a": 1}) + b" ", "its checksum does not match its content"),
        (sealed.seal({"a": 1})[:-1], "its checksum does not match its content"),
        (b" " + sealed.seal({"a": 1}), "its checksum does not match its content"),
    ],
)
def test_what_is_not_a_sealed_document_is_refused(raw: bytes, text: str) -> None:
    with pytest.raises(Damaged) as refused:
        sealed.unseal(raw, "a/key")
    assert str(refused.value).startswith(f"a/key is damaged: {text}")


def test_of_a_giant_where_a_record_should_be_no_more_is_read_than_a_record_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "key").open("wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(Manifest, "max_bytes", 1000)
    with pytest.raises(Damaged) as refused:
        Manifest.load(LocalBackend(tmp_path), "key")
    assert str(refused.value) == "key is damaged: it is longer than 1000 bytes, which no manifest of ours is"


def test_a_float_that_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError):
        sealed.seal({"loss": float("nan")})


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"step": "7"}, "step: Input should be a valid integer"),
        ({"step": -1}, "step: Input should be greater than or equal to 0"),
        ({"nonce": "../../"}, "nonce: String should match pattern '^[0-9a-f]{6}$'"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"format": "relight-checkpoint/2"}, "format: Input should be 'relight-checkpoint/1'"),
        ({"shards": []}, "it: Value error, shards must list the ranks 0, 1, 2, ... once each"),
        ({"shards": [{"rank": 1, "size": 1, "root": HASH}]}, "it: Value error, shards must list the ranks 0, 1, 2"),
        ({"shards": [{"rank": 0, "size": 1.5, "root": HASH}]}, "shards.0.size: Input should be a valid integer"),
        ({"progress": {"epoch": 0, "step": 1}}, "progress.samples: Field required"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused_by_its_name(changed: dict[str, Any], text: str) -> None:
    raw = sealed.seal(manifest().model_dump(mode="json") | changed)
    with pytest.raises(Damaged) as refused:
        Manifest.from_bytes(raw, "manifest.json")
    assert str(refused.value).startswith(f"manifest.json is damaged: {text}")


def test_a_manifest_comes_back_as_it_was() -> None:
    progress = Progress(epoch=3, step=7, samples=8, loss=0.1, metrics={"accuracy": 1.0})
    written = manifest(progress=progress)
    assert Manifest.from_bytes(written.to_bytes(), "key") == written
    assert written.id == AttemptId(7, 1, 1, "00abcd")
    assert (written.world_size, written.size) == (1, 4096)
    assert written.shard_key(0) == written.id.shard_key(0, 1)


@pytest.mark.parametrize("loss", ["nan", "inf", "-inf"])
def test_a_loss_that_is_no_number_is_spelled_out(loss: str) -> None:
    """A run whose loss explodes is saved all the same."""
    written = manifest(progress=Progress(epoch=0, step=7, samples=0, loss=float(loss), metrics={"a": float(loss)}))
    again = Manifest.from_bytes(written.to_bytes(), "key")
    assert (again.progress.loss, again.progress.metrics) == (loss, {"a": loss})


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"blocks": []}, "it: Value error, 0 block checksums cannot cover 10 bytes"),
        ({"blocks": [HASH, HASH]}, "it: Value error, 2 block checksums cannot cover 10 bytes"),
        ({"blocks": ["x"]}, "blocks.0: String should match pattern"),
        ({"block_bytes": 0}, "block_bytes: Input should be greater than 0"),
    ],
)
def test_a_receipt_whose_blocks_cannot_cover_the_shard_is_refused(changed: dict[str, Any], text: str) -> None:
    body = {"rank": 0, "size": 10, "block_bytes": 10, "blocks": [HASH], "failed": None}
    assert Receipt.from_bytes(sealed.seal(body), "key").entry == ShardEntry(rank=0, size=10, root=root([HASH], 10, 10))
    with pytest.raises(Damaged) as refused:
        Receipt.from_bytes(sealed.seal(body | changed), "receipt")
    assert str(refused.value).startswith(f"receipt is damaged: {text}")


def test_records_are_json_that_a_person_can_read() -> None:
    assert json.loads(manifest().to_bytes())["record"]["progress"]["samples"] == 56
