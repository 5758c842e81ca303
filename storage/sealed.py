"""Small JSON documents that prove themselves: what is read is byte for byte what was written, or it is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import xxhash
from pydantic import BaseModel, ValidationError

from .backends.base import Backend
from .errors import Damaged

Model = TypeVar("Model", bound=BaseModel)

MAX_DOCUMENT_BYTES = 64 << 20
"""No record of ours is larger; of a bigger file no more than this is read."""

READS = 3
"""How often bytes are read before they count as damaged: they may be whole where they lie and suffer on the way."""


def canonical(body: object) -> str:
    """The one spelling of a JSON value that is hashed and compared. Non-finite floats are refused (ValueError)."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def seal(body: Mapping[str, Any]) -> bytes:
    """`{"checksum": xxh3_128 of the canonical body, "record": body}`, ready to be stored."""
    checksum = xxhash.xxh3_128_hexdigest(canonical(body).encode())
    text = json.dumps({"checksum": checksum, "record": body}, sort_keys=True, indent=1, allow_nan=False)
    return text.encode() + b"\n"


def read_limited(backend: Backend, key: str) -> bytes:
    """The bytes of a document, of which no more than it may have are ever fetched."""
    return backend.read(key, 0, MAX_DOCUMENT_BYTES + 1)


def unseal(raw: bytes, key: str) -> dict[str, Any]:
    """The body of a sealed document; raises `Damaged` unless the bytes are exactly what `seal` makes of it."""
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise Damaged(key, f"it is longer than {MAX_DOCUMENT_BYTES} bytes, more than any record of Relight's")
    document = strict_json(raw, key)
    body = document.get("record") if isinstance(document, dict) else None
    # Comparing whole documents also catches what a checksum of the body cannot: damage in the white space around it.
    if not isinstance(body, dict) or seal(body) != raw:
        raise Damaged(key, "its checksum does not match its content")
    return body


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
    try:
        return model.model_validate_json(canonical(body), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise Damaged(key, f"{where}: {first['msg']}") from None


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
