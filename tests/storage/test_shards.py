"""The shard file: what is planned is parsed again, the safetensors library agrees, and hostile headers are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.storage import arrangement, shards
from relight.storage.arrangement import plan
from relight.storage.errors import Damaged
from relight.storage.shards import ITEM_BYTES, Piece, ShardLayout, header_bytes, parse

deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize  # Untyped there.

DTYPES = st.sampled_from(sorted(ITEM_BYTES))
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
STATE = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)


@st.composite
def boxes(draw: st.DrawFn) -> Piece:
    whole = draw(st.lists(st.integers(0, 5), max_size=4))
    offset = [draw(st.integers(0, length)) for length in whole]
    shape = [draw(st.integers(0, length - start)) for length, start in zip(whole, offset, strict=True)]
    return Piece(draw(NAMES), draw(DTYPES), tuple(shape), tuple(whole), tuple(offset))


PIECES = st.lists(boxes(), max_size=6, unique_by=lambda piece: (piece.name, piece.offset))


def content(layout: ShardLayout) -> bytes:
    """The file, each tensor filled with its place in it."""
    data = bytearray(layout.header.ljust(layout.size))
    for number, placed in enumerate(layout.placed):
        data[placed.start : placed.start + placed.piece.size] = bytes([number + 1]) * placed.piece.size
    return bytes(data)


@settings(max_examples=200, deadline=None)
@given(PIECES, STATE)
def test_what_is_planned_is_parsed_again(pieces: list[Piece], state: dict[str, Any]) -> None:
    layout = plan(pieces, state)
    again = parse(layout.header, layout.size, "key")
    assert sorted(again.placed, key=repr) == sorted(layout.placed, key=repr)
    assert (again.size, again.state) == (layout.size, state)
    assert {placed.piece for placed in layout.placed} == set(pieces)
    assert header_bytes(layout.header[:8], layout.size, "key") == len(layout.header)


@settings(max_examples=100, deadline=None)
@given(PIECES)
def test_every_tensor_is_aligned_to_its_own_elements(pieces: list[Piece]) -> None:
    layout = plan(pieces, {})
    assert len(layout.header) % 4096 == 0
    assert all(placed.start % ITEM_BYTES[placed.piece.dtype] == 0 for placed in layout.placed)


@settings(max_examples=100, deadline=None)
@given(PIECES)
def test_the_safetensors_library_alone_reads_the_same_content(pieces: list[Piece]) -> None:
    layout = plan(pieces, {"a": 1})
    data = content(layout)
    read = [(entry["shape"], entry["dtype"], bytes(entry["data"])) for _, entry in deserialize(data)]
    ours = [
        (list(placed.piece.shape), placed.piece.dtype, data[placed.start : placed.start + placed.piece.size])
        for placed in layout.placed
    ]
    assert sorted(read) == sorted(ours)


def test_a_whole_tensor_is_found_under_its_own_name_by_anybody() -> None:
    layout = plan([Piece.whole("model/weight", "F32", (2, 3))], {})
    ((name, entry),) = deserialize(content(layout))
    assert (name, entry["shape"]) == ("model/weight", [2, 3])


def test_names_that_look_like_our_own_marks_do_not_collide() -> None:
    pieces = [
        Piece("w", "F32", (1,), (2,), (0,)),
        Piece("w", "F32", (1,), (2,), (1,)),
        Piece.whole("w@1", "F64", (1,)),
        Piece.whole("__metadata__", "U8", (1,)),
    ]
    layout = plan(pieces, {})
    assert {placed.piece for placed in parse(layout.header, layout.size, "key").placed} == set(pieces)


def test_a_header_does_not_shrink_below_the_room_that_was_asked_for() -> None:
    assert len(plan([], {}, min_header_bytes=10_000).header) == 12_288
    assert len(plan([], {}).header) == 4096


# --- refused at save time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("w", "F128", (1,), (1,), (0,)), "tensor 'w' has dtype 'F128', which a shard cannot hold"),
        (
            ("w", "F32", (2,), (3,), (2,)),
            "the piece of 'w' at [2] of shape [2] does not lie in its tensor of shape [3]",
        ),
        (
            ("w", "F32", (1,), (1, 1), (0,)),
            "the piece of 'w' at [0] of shape [1] does not lie in its tensor of shape [1, 1]",
        ),
        (
            ("w", "F32", (1,), (3,), (-1,)),
            "the piece of 'w' at [-1] of shape [1] does not lie in its tensor of shape [3]",
        ),
    ],
)
def test_a_piece_that_cannot_be_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(ValueError) as refused:
        Piece(*arguments)
    assert str(refused.value) == text


def test_a_piece_that_is_planned_twice_is_refused() -> None:
    with pytest.raises(ValueError) as refused:
        plan([Piece.whole("w", "F32", (1,)), Piece.whole("w", "F32", (1,))], {})
    assert str(refused.value) == "the piece of 'w' at [0] is planned twice"


def test_state_that_no_reader_would_accept_is_refused_at_save_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError):
        plan([], {"loss": math.nan})
    monkeypatch.setattr(arrangement, "MAX_HEADER_BYTES", 4096)
    with pytest.raises(ValueError) as refused:
        plan([], {"large": "x" * 5000})
    assert str(refused.value) == ("the shard's header would be 8192 bytes long; 4096 are possible. Keep less in JSON")


def test_the_longest_header_is_one_that_the_library_takes() -> None:
    length = shards.MAX_HEADER_BYTES - 8
    raw = length.to_bytes(8, "little") + b"{}".ljust(length)
    assert deserialize(raw) == []
    assert header_bytes(raw[:8], len(raw), "key") == len(raw)
    longer = (length + 1).to_bytes(8, "little")
    with pytest.raises(Damaged, match=f"its header claims {length + 9} bytes, which cannot be"):
        header_bytes(longer, length + 9, "key")


def test_a_header_that_no_reader_would_parse_is_refused_at_save_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (arrangement, shards):
        monkeypatch.setattr(module, "MAX_HEADER_CONTAINERS", 20)
    with pytest.raises(ValueError) as refused:
        plan([], {"many": [[]] * 20})
    assert str(refused.value) == (
        "the shard's header would hold more than 20 lists and objects or 2097152 values. "
        "Keep less in JSON, and what is long in tensors"
    )
    header = plan([], {"many": [[]] * 15}).header
    monkeypatch.setattr(shards, "MAX_HEADER_CONTAINERS", 10)
    with pytest.raises(Damaged, match="its header holds more than 10 lists or 2097152 values"):
        shards.parse(header, len(header), "key")
