"""What somebody with evil intent may have put into a run's storage. Each case forges all checksums that it can.

A case is `(name, plant)`: `plant(root, outside)` changes a run with one good checkpoint of one rank.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from relight.storage import checksum, sealed
from relight.storage.layout import AttemptId
from relight.tests.storage.test_hostile_shards import HOSTILE, raw_header

ID = AttemptId(10, 1, 1, "00abcd")
MANIFEST, RECEIPT, SHARD = ID.manifest_key, ID.receipt_key(0), ID.shard_key(0, 1)
RUN, GENERATION = "run.json", "generations/00000001.json"
RECORDS = (MANIFEST, RECEIPT, RUN, GENERATION)
DEEP = json.loads("[" * 300 + "]" * 300)
GIANT = 1 << 40

Plant = Callable[[Path, Path], None]


def body_of(root: Path, key: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((root / key).read_bytes())["record"]
    return body


def put_record(root: Path, key: str, body: dict[str, Any]) -> None:
    """With the right checksum."""
    (root / key).write_bytes(sealed.seal(body))


def put_shard(root: Path, data: bytes, size: int | None = None, **receipt: Any) -> None:
    """A shard with receipt and manifest that vouch for it. `size` beyond `data` is a hole in the file."""
    size = len(data) if size is None else size
    with (root / SHARD).open("wb") as file:
        file.write(data)
        file.truncate(size)
    block_bytes = receipt.pop("block_bytes", checksum.BLOCK_BYTES)
    blocks = receipt.pop("blocks", checksum.hash_blocks(data, block_bytes))
    body = {"rank": 0, "size": size, "block_bytes": block_bytes, "blocks": list(blocks), "failed": None, **receipt}
    put_record(root, RECEIPT, body)
    entry = {"rank": 0, "size": size, "root": checksum.root(blocks, size, block_bytes)}
    put_record(root, MANIFEST, body_of(root, MANIFEST) | {"shards": [entry]})


def inside(act: Callable[..., object], *arguments: Any) -> Plant:
    """`act(root, *arguments)`."""

    def plant(root: Path, _: Path) -> None:
        act(root, *arguments)

    return plant


def cases() -> Iterator[tuple[str, Plant]]:
    yield from _raw_records()
    yield from _fields()
    yield from _headers()
    yield from _sizes()
    yield from _links()


RAW: dict[str, bytes] = {
    "empty": b"",
    "cut short": b"{",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"record":' * 100_000,
    "deep in a record": b'{"checksum": "0", "record": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
    "no UTF-8": b"\xff\xfe\x00",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a key twice": b'{"checksum": "0", "checksum": "0", "record": {}}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "a giant number": b"9" * 5000,
    "a giant exponent": b'{"checksum": "0", "record": {"a": 1e999}}',
    "a list": b"[]",
    "a text": b'"record"',
    "no checksum": b'{"record": {}}',
    "a record that is a list": b'{"checksum": "0", "record": []}',
    "a lone surrogate": b'{"checksum": "\\ud800", "record": {"a": "\\ud800"}}',
    "NUL": b"\0" * 100,
    "a pickle that runs a command": b"cos\nsystem\n(S'touch PWNED'\ntR.",
    "a pickle of protocol 4": b"\x80\x04\x95\x1e" + bytes(7) + b"\x8c\x05posix\x8c\x06system\x93\x8c\x01x\x85R.",
    "a zip": b"PK\x03\x04" + bytes(60),
    "YAML with a tag": b"!!python/object/apply:os.system ['touch PWNED']",
}


def _raw_records() -> Iterator[tuple[str, Plant]]:
    for key in RECORDS:
        for name, raw in RAW.items():
            yield f"{key} is {name}", inside(_write, key, raw)


_TEXTS = ("../../../etc/passwd", "/etc/passwd", "a\0b", "$(touch PWNED)")
_NO_TEXT: tuple[Any, ...] = (None, True, -1, 1.5, [], {}, DEEP)
_NO_COUNT: tuple[Any, ...] = (None, True, -1, 1.5, 1 << 70, [], {}, DEEP, "7", *_TEXTS)
_WRONG: dict[str, dict[str, tuple[Any, ...]]] = {
    MANIFEST: {
        "format": (*_NO_TEXT, *_TEXTS, "relight-checkpoint/2"),
        "run": _NO_TEXT,
        "token": _NO_TEXT,
        "saved_at": _NO_TEXT,
        "nonce": (*_NO_TEXT, *_TEXTS, "00abcd\n", "../../"),
        "step": (*_NO_COUNT, 10**12, 11),
        "generation": (*_NO_COUNT, 10**8, 2),
        "attempt": (*_NO_COUNT, 10**9, 2),
        "progress": (None, True, 7, [], {}, DEEP, *_TEXTS),
        "shards": (
            *(None, True, 7, [], {}, DEEP, *_TEXTS),
            [{"rank": 0, "size": 1 << 62, "root": "0" * 32}],
            [{"rank": 0, "size": -1, "root": "0" * 32}],
            [{"rank": 1, "size": 1, "root": "0" * 32}],
            [{"rank": 0, "size": 1, "root": "../" * 8}],
            [{"rank": n, "size": 1, "root": "0" * 32} for n in range(5000)],
        ),
        "surprise": (1, "../x", DEEP),
    },
    RECEIPT: {
        "rank": (*_NO_COUNT, 1),
        "size": (*_NO_COUNT, 1, 1 << 62),
        "block_bytes": (*_NO_COUNT, 0, 1, 1 << 40),
        "blocks": (None, True, 7, [], {}, DEEP, ["x"], ["0" * 32] * 5000, *_TEXTS),
        "failed": (True, 7, [], {}, DEEP, "no"),
        "surprise": (1, "../x", DEEP),
    },
    RUN: {"run": _NO_TEXT, "identity": (None, True, 7, [], {"a": []}, {"a": None}, DEEP), "surprise": (1, DEEP)},
    GENERATION: {"incarnation": _NO_TEXT, "host": _NO_TEXT, "resumed_from": (True, -1, 1.5, [], {}, "7", DEEP)},
}


_MAY_BE_ABSENT = {"surprise", "format", "failed", "block_bytes"}


def _fields() -> Iterator[tuple[str, Plant]]:
    for key, fields in _WRONG.items():
        for field, values in fields.items():
            for value in values:
                yield f"{key}: {field} is {repr(value)[:40]}", inside(_set, key, field, value)
            if field not in _MAY_BE_ABSENT:
                yield f"{key}: no {field}", inside(_drop, key, field)


def _set(root: Path, key: str, field: str, value: Any) -> None:
    put_record(root, key, body_of(root, key) | {field: value})


def _drop(root: Path, key: str, field: str) -> None:
    body = body_of(root, key)
    del body[field]
    put_record(root, key, body)


def _headers() -> Iterator[tuple[str, Plant]]:
    for name, (document, data_bytes, _) in HOSTILE.items():
        raw = raw_header(document) + bytes(data_bytes)
        yield f"header: {name}", inside(put_shard, raw)
    for length in (0, 1, 1 << 20, 100_000_001, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        raw = length.to_bytes(8, "little") + b"{}"
        yield f"header: {length} bytes long", inside(put_shard, raw)
    for size in range(8):
        yield f"header: a shard of {size} bytes", inside(put_shard, bytes(size))
    for name, raw in RAW.items():
        whole = len(raw).to_bytes(8, "little") + raw
        yield f"header: {name}", inside(put_shard, whole)
    vast = {"__metadata__": {"relight.pieces": json.dumps({"w": ["w", [1 << 62], [0]]}), "relight.state": "{}"}}
    vast["w"] = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}  # type: ignore[dict-item]
    yield "header: a piece of a giant tensor", inside(put_shard, raw_header(vast) + bytes(4))


def _sizes() -> Iterator[tuple[str, Plant]]:
    for key in RECORDS:
        yield f"{key} is 1 TiB long", inside(_lengthen, key)
    yield "the shard is 1 TiB long", inside(_lengthen, SHARD)
    yield (
        "a shard of one block of 1 TiB",
        lambda root, _: put_shard(root, b"", GIANT, block_bytes=GIANT, blocks=("0" * 32,)),
    )
    yield (
        "a shard of 1 TiB in 64 MiB blocks",
        lambda root, _: put_shard(root, b"", GIANT, block_bytes=64 << 20, blocks=("0" * 32,)),
    )


def _links() -> Iterator[tuple[str, Plant]]:
    """What is outside is good: a reader that followed the link would find nothing wrong."""
    for key in (*RECORDS, SHARD):
        yield f"{key} is a link", _led_out(key)
        yield f"{key} is a folder", inside(_replace, key, os.mkdir)
        yield f"{key} is a pipe", inside(_replace, key, os.mkfifo)
        yield f"{key} is a link to itself", inside(_replace, key, _to_itself)
    yield f"{ID.receipts} is a link", _led_out(ID.receipts)
    yield f"{ID.folder} is a link", _led_out(ID.folder)
    for folder in ("checkpoints", "generations"):
        yield f"{folder}/ is a link", _led_out(folder)


def _write(root: Path, key: str, raw: bytes) -> None:
    (root / key).write_bytes(raw)


def _lengthen(root: Path, key: str) -> None:
    os.truncate(root / key, GIANT)


def _replace(root: Path, key: str, make: Callable[[Path], object]) -> None:
    (root / key).unlink()
    make(root / key)


def _to_itself(path: Path) -> None:
    path.symlink_to(path)


def _led_out(key: str) -> Plant:
    def plant(root: Path, outside: Path) -> None:
        path = root / key
        path.rename(outside / path.name)
        path.symlink_to(outside / path.name)

    return plant
