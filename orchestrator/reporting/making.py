"""`relight report` at its edges: reads what is stored at a URL, and writes the page whole or not at all."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import asdict
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Final

from ...storage.backends.open import open_backend
from ...storage.catalog import Catalog
from ...storage.choosing import catalog
from ...storage.errors import NotFound
from ..accounting.documents import read_lives
from ..commands.status import describe
from ..errors import UsageError
from .errors import NotWritten
from .page import GENERATOR, page
from .story import Story
from .telling import tell

_HEAD_BYTES: Final = 1024


def read(url: str, now: float) -> Story:
    """The course of the run at `url`, a script's --log-dir, or of the checkpoints alone where no launcher wrote.

    Raises:
        NotFound: there is neither a journal nor a checkpoint.
    """
    backend = open_backend(url)
    lives = read_lives(backend)
    # Beside a script's logs there is a journal and no run.
    found = Catalog(backend) if lives else catalog(backend)
    manifests = [checkpoint.manifest for checkpoint in found.committed()]
    if not lives and not manifests:
        raise NotFound(f"there is nothing to report yet at {backend.url}: neither a journal nor a checkpoint")
    facts = describe(backend, lives, now) if lives else {}
    return tell(backend.url, lives, manifests, facts, now)


def local_zone(now: float) -> tzinfo:
    """Of this machine."""
    zone = datetime.fromtimestamp(now).astimezone().tzinfo
    assert zone is not None
    return zone


def write(out: Path, story: Story, zone: tzinfo, *, overwrite: bool = False) -> None:
    """A file that is there is replaced if it is a report, too, or with `overwrite`.

    Raises:
        UsageError: something else is there.
        NotWritten: the file system refuses.
    """
    if not overwrite and not may_replace(out):
        raise UsageError(f"{out} is there already, and is no report of ours: name another file, or say --overwrite")
    data = page(story, zone).encode("utf-8", "replace")
    try:
        _replace(out, data)
    except OSError as error:
        raise NotWritten(f"the report cannot be written to {out}: {error.strerror or error}") from None


def may_replace(out: Path) -> bool:
    """Nothing is there, or a report."""
    try:
        with out.open("rb") as file:
            return f'content="{GENERATOR}"'.encode() in file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise NotWritten(f"the report cannot be written to {out}: {error.strerror or error}") from None


def _replace(out: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)  # As any other file that is written, and not for its owner alone.
        partial.replace(out)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def document(story: Story) -> dict[str, Any]:
    """The story as JSON has it, which knows no infinities."""
    spelt: dict[str, Any] = _spelt(asdict(story))
    return spelt


def _spelt(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _spelt(each) for name, each in value.items()}
    return [_spelt(each) for each in value] if isinstance(value, list | tuple) else value
