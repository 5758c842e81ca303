"""A shard's header that lies is refused in our words before anything is computed with it or allocated for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.storage.errors import Damaged
from relight.storage.shards import header_bytes, parse

deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize  # Untyped there.


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
