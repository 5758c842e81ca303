"""Of which format a file is, by what is in it: names lie."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Final

from ....storage.layout import RUN_KEY
from ...errors import NotImported

_INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE: Final = ("model.safetensors", "pytorch_model.bin")
"""How Hugging Face's libraries name what they keep in a folder; an index goes before the files it names."""

_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"
_KNOWN: Final = "a .pt or .pth file of torch.save, a safetensors file, its index, or a folder of DCP's or the Hub's"


class Format(Enum):
    TORCH = "torch"
    SAFETENSORS = "safetensors"
    INDEX = "index"
    DCP = "dcp"


def recognise(path: Path) -> tuple[Format, Path]:
    """The format, and the file or folder to open.

    Raises:
        NotImported: there is nothing, or nothing that is served.
        OSError: it cannot be looked at.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise NotImported(f"there is no file or folder {path}")
    with path.open("rb") as file:
        first = file.read(9)
    if first.startswith((_ZIP, _PICKLE)):
        return Format.TORCH, path
    if first[8:9] == b"{" and 2 <= int.from_bytes(first[:8], "little") <= path.stat().st_size:
        return Format.SAFETENSORS, path
    if first.startswith(b"{") and _is_index(path):
        return Format.INDEX, path
    what = "is empty" if not first else "is no checkpoint"
    if path.suffix == ".safetensors":
        what = "is not a whole safetensors file"
    raise NotImported(f"{path} {what}: what can be imported is {_KNOWN}")


def _folder(path: Path) -> tuple[Format, Path]:
    if (path / ".metadata").is_file():
        return Format.DCP, path
    for name in _INDEXES:
        if (path / name).is_file():
            return Format.INDEX, path / name
    for name in _SINGLE:
        if (path / name).is_file():
            return recognise(path / name)
    if (path / RUN_KEY).is_file():
        raise NotImported(f"{path} is a run of Relight's already: relight cp copies a checkpoint of it to another URL")
    alone = sorted(path.glob("*.safetensors"))
    if len(alone) == 1:
        return Format.SAFETENSORS, alone[0]
    raise NotImported(
        f"{path} is a folder without .metadata (DCP's) and without {' or '.join((*_INDEXES[:1], *_SINGLE[:1]))} (the "
        f"Hub's). Name a file in it; what can be imported is {_KNOWN}"
    )


def _is_index(path: Path) -> bool:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(document, dict) and isinstance(document.get("weight_map"), dict)
