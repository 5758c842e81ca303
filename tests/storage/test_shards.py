"""The shard file: what is planned is parsed again, the safetensors library agrees, and hostile headers are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.storage import shards
from relight.storage.errors import Damaged
from relight.storage.shards import ITEM_BYTES, Piece, ShardLayout, header_bytes, parse, plan

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
    monkeypatch.setattr(shards, "MAX_HEADER_BYTES", 4096)
    with pytest.raises(ValueError) as refused:
        plan([], {"large": "x" * 5000})
    assert str(refused.value) == ("the shard's header would be 8192 bytes long; 4096 are possible. Keep less in JSON")


def test_the_longest_header_is_the_librarys_own() -> None:
    longest = shards.MAX_HEADER_BYTES - 8
    for length, agreed in ((longest, True), (longest + 1, False)):
        raw = length.to_bytes(8, "little") + b"{}".ljust(length)
        if agreed:
            assert deserialize(raw) == []
            assert header_bytes(raw[:8], len(raw), "key") == len(raw)
        else:
            with pytest.raises(safetensors.SafetensorError, match="header too large"):
                deserialize(raw)
            with pytest.raises(Damaged, match="its header claims 100000009 bytes, which cannot be"):
                header_bytes(raw[:8], len(raw), "key")


# --- refused when read ------------------------------------------------------------------------------------------------


def raw_header(document: Any) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return len(text).to_bytes(8, "little") + text


def document(**tensors: Any) -> dict[str, Any]:
    return {"__metadata__": {"relight.pieces": "{}", "relight.state": "{}"}, **tensors}


def tensor(start: int, stop: int, shape: Any, dtype: Any = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def pieces_of(pieces: Any) -> dict[str, Any]:
    return {"__metadata__": {"relight.pieces": json.dumps(pieces), "relight.state": "{}"}, "w": tensor(0, 4, [4])}


HOSTILE: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{", 0, "it is not JSON"),
    "a list": ([], 0, "its header is not one of Relight's"),
    "no metadata": ({}, 0, "its header is not one of Relight's (KeyError: '__metadata__')"),
    "metadata of another kind": ({"__metadata__": {"format": "pt"}}, 0, "its header is not one of Relight's"),
    "a name twice": (b'{"w": 1, "w": 2}', 0, "a key appears twice"),
    "state that is a list": (
        {"__metadata__": {"relight.pieces": "{}", "relight.state": "[]"}},
        0,
        "its header is not one of Relight's",
    ),
    "a gap": (document(a=tensor(0, 4, [4]), b=tensor(5, 9, [4])), 9, "does not lie where"),
    "a gap at the start": (document(a=tensor(1, 5, [4])), 5, "does not lie where"),
    "an overlap": (document(a=tensor(0, 4, [4]), b=tensor(3, 7, [4])), 7, "does not lie where"),
    "the same bytes twice": (document(a=tensor(0, 4, [4]), b=tensor(0, 4, [4])), 4, "does not lie where"),
    "too few bytes for its shape": (document(a=tensor(0, 4, [5])), 4, "does not lie where"),
    "offsets backwards": (document(a=tensor(4, 0, [4])), 4, "does not lie where"),
    "negative offset": (document(a=tensor(-4, 0, [4])), 4, "-4 is not a size"),
    "an offset that is true": (document(a=tensor(0, True, [1])), 1, "True is not a size"),
    "an offset that is 4.0": (document(a=tensor(0, 4.0, [4])), 4, "4.0 is not a size"),  # type: ignore[arg-type]
    "an offset that is text": (document(a=tensor(0, "4", [4])), 4, "'4' is not a size"),  # type: ignore[arg-type]
    "three offsets": (document(a={"dtype": "U8", "shape": [], "data_offsets": [0, 1, 2]}), 1, "its header is not"),
    "a shape below zero": (document(a=tensor(0, 4, [-4])), 4, "-4 is not a size"),
    "a shape that is no list": (document(a=tensor(0, 4, 4)), 4, "its header is not one of Relight's"),
    "a giant shape": (document(a=tensor(0, 4, [1 << 63])), 4, f"{1 << 63} is not a size"),
    "a shape that overflows": (document(a=tensor(0, 0, [1 << 62] * 4)), 0, "does not lie where"),
    "more dimensions than there are": (document(a=tensor(0, 1, [1] * 65)), 1, "65 dimensions are more than a tensor"),
    "an unknown dtype": (document(a=tensor(0, 4, [4], "F5")), 4, "has dtype 'F5', which a shard cannot hold"),
    "a dtype that is a list": (document(a=tensor(0, 4, [4], [])), 4, "its header is not one of Relight's"),
    "a tensor that is no object": (document(a=1), 0, "its header is not one of Relight's"),
    "bytes after the last tensor": (document(a=tensor(0, 4, [4])), 5, "its tensors end at byte "),
    "a file that is too short": (document(a=tensor(0, 4, [4])), 3, "its tensors end at byte "),
    "a piece outside its tensor": (pieces_of({"w": ["w", [3], [0]]}), 4, "does not lie in its tensor of shape [3]"),
    "a piece of other dimensions": (pieces_of({"w": ["w", [4, 1], [0, 0]]}), 4, "does not lie in its tensor"),
    "a piece without a name": (pieces_of({"w": [1, [4], [0]]}), 4, "1 is not a name"),
    "a piece at a negative place": (pieces_of({"w": ["w", [4], [-1]]}), 4, "-1 is not a size"),
    "a piece that is too short": (pieces_of({"w": ["w", [4]]}), 4, "its header is not one of Relight's"),
    "pieces that are a list": (pieces_of([]), 4, "its header is not one of Relight's"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_refused(case: str) -> None:
    body, data_bytes, text = HOSTILE[case]
    header = raw_header(body)
    with pytest.raises(Damaged) as refused:
        parse(header, len(header) + data_bytes, "a/shard")
    assert str(refused.value).startswith("a/shard is damaged: ")
    assert text in str(refused.value)


@pytest.mark.parametrize("case", [name for name in HOSTILE if "offset" in name or "gap" in name or "overlap" in name])
def test_what_the_library_refuses_we_refuse(case: str) -> None:
    body, data_bytes, _ = HOSTILE[case]
    with pytest.raises(safetensors.SafetensorError):
        deserialize(raw_header(body) + bytes(data_bytes))


@pytest.mark.parametrize(
    ("prefix", "size", "text"),
    [
        (b"", 0, "it is 0 bytes long and cannot hold a header"),
        (b"1234567", 7, "it is 7 bytes long and cannot hold a header"),
        ((93).to_bytes(8, "little"), 100, "its header claims 101 bytes, which cannot be"),
        (b"\xff" * 8, 100, "its header claims 18446744073709551623 bytes, which cannot be"),
    ],
)
def test_a_header_length_that_cannot_be_is_refused_before_it_is_read(prefix: bytes, size: int, text: str) -> None:
    with pytest.raises(Damaged) as refused:
        header_bytes(prefix, size, "key")
    assert str(refused.value) == f"key is damaged: {text}"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.from_regex(rb'\{("[a-z_]{1,12}":(\{\}|\[\]|[0-9]{1,3}),?){0,4}\}'))
def test_any_bytes_for_a_header_are_parsed_or_refused_in_our_words(raw: bytes) -> None:
    with pytest.raises(Damaged):
        parse(len(raw).to_bytes(8, "little") + raw, 8 + len(raw), "key")
