"""Small JSON documents that prove themselves: what is read is byte for byte what was written, or it is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import xxhash
from pydantic import BaseModel, ValidationError

from .errors import Damaged

Model = TypeVar("Model", bound=BaseModel)

READS = 3
"""How often bytes are read before they count as damaged: they may be whole where they lie and suffer on the way."""


def canonical(body: object) -> str:
    """The one spelling of a JSON value that is hashed and compared. Non-finite floats are refused (ValueError)."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def seal(body: Mapping[str, Any]) -> bytes:
    """`{"checksum": xxh3_128 of the canonical body, "record": body}`, ready to be stored."""
    return "".join(_spelled(body)).encode()


def _spelled(body: Mapping[str, Any]) -> Iterator[str]:
    checksum = xxhash.xxh3_128_hexdigest(canonical(body).encode())
    yield from json.JSONEncoder(sort_keys=True, indent=1, allow_nan=False).iterencode(
        {"checksum": checksum, "record": body}
    )
    yield "\n"


def _is_spelled_so(raw: bytes, body: Mapping[str, Any]) -> bool:
    """Compared bit by bit: the pieces of a large document together take many times its size."""
    at = 0
    for piece in _spelled(body):
        if not raw.startswith(piece.encode(), at):
            return False
        at += len(piece)  # All of it is ASCII.
    return at == len(raw)


def unseal(raw: bytes, key: str) -> dict[str, Any]:
    """The body of a sealed document; raises `Damaged` unless the bytes are exactly what `seal` makes of it."""
    document = strict_json(raw, key)
    body = document.get("record") if isinstance(document, dict) else None
    # Comparing whole documents also catches what a checksum of the body cannot: damage in the white space around it.
    if not isinstance(body, dict) or not _is_spelled_so(raw, body):
        raise Damaged(key, "its checksum does not match its content")
    return body


def is_bulky(raw: bytes, *, containers: int, values: int) -> bool:
    """More than so many lists and objects, or values? Counted in the text, before any of them takes memory.

    A comma in a string counts too. As Python's objects `{"a":0}` takes 240 bytes, an empty list 64, a number 32.
    """
    return raw.count(b"{") + raw.count(b"[") > containers or raw.count(b",") > values


def strict_json(raw: bytes, key: str) -> Any:
    """JSON without duplicate keys, NaN, infinities or any encoding but UTF-8; raises `Damaged`."""
    try:
        return json.loads(
            raw.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constants, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise Damaged(key, f"it is not JSON ({error})") from None


def parse_record(model: type[Model], raw: bytes, key: str) -> Model:
    """A sealed document as its model; raises `Damaged` with the first field that does not fit."""
    body = unseal(raw, key)
    _check_fields(model, body, key)
    try:
        return model.model_validate_json(canonical(body), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise Damaged(key, f"{where}: {first['msg']}") from None


def _check_fields(model: type[BaseModel], body: Mapping[str, Any], key: str) -> None:
    """pydantic would see it too, but its error holds a copy of the whole body for every field that is not there."""
    for name, field in model.model_fields.items():
        if field.is_required() and name not in body:
            raise Damaged(key, f"{name}: Field required")
    for name in body:
        if name not in model.model_fields:
            raise Damaged(key, f"{name:.60}: Extra inputs are not permitted")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a key appears twice"
        raise ValueError(message)
    return found


def _no_constants(name: str) -> NoReturn:
    message = f"{name} is not a JSON number"
    raise ValueError(message)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # `1e999` is a JSON number, but not one that could be written again.
        message = f"{text} is too large"
        raise ValueError(message)
    return value
