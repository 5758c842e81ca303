"""Where an export arrives: beside its name first, durable, and then under it, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ...errors import NotExported

_SAFETENSORS_INDEX: Final = "model.safetensors.index.json"


def check_free(out: str, *, overwrite: bool, is_folder: bool) -> Path:
    """The place that `out` names, if an export may go there. Raises NotExported; nothing is changed.

    A folder is overwritten only where all that is in it is an export: nobody's home is lost to a slip.
    """
    if "://" in out:
        raise NotExported(f"an export goes to a local path, and {out} is a URL: export to a file, and copy that there")
    path = Path(out).expanduser()
    if not path.parent.is_dir():
        raise NotExported(f"there is no folder {path.parent} for {path.name}: make it first")
    if not os.path.lexists(path):
        return path
    if not overwrite:
        raise NotExported(f"{path} exists already. Choose another name, or replace it with --overwrite")
    if path.is_dir() != is_folder or path.is_symlink():
        kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a file"
        raise NotExported(f"{path} is {kind}, which this export does not replace: remove it, or choose another name")
    if is_folder and (foreign := [it.name for it in path.iterdir() if not _is_ours(it)]):
        raise NotExported(f"{path} holds what is no export ({min(foreign)}): it is not replaced. Remove it first")
    return path


@contextmanager
def landing_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A name beside `path` to write a file under; it becomes `path` when the block ends well, and is removed else."""
    with _landing(path, Path.unlink) as beside:
        yield beside
        _sync(beside)
        if overwrite:
            beside.replace(path)
        else:
            _put(beside, path)


@contextmanager
def landing_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """The same for a folder, which is there and empty."""
    with _landing(path, shutil.rmtree) as beside:
        beside.mkdir()
        yield beside
        for inside in beside.iterdir():
            _sync(inside)
        _sync(beside)
        if not overwrite and os.path.lexists(path):
            raise NotExported(f"{path} has come to be meanwhile: it is not replaced")
        _put_in_place_of(path, beside)


def bytes_at(path: Path) -> int:
    return sum(it.stat().st_size for it in path.iterdir()) if path.is_dir() else path.stat().st_size


@contextmanager
def _landing(path: Path, remove: Callable[[Path], object]) -> Iterator[Path]:
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield beside
        _sync(path.parent)
    except OSError as error:
        raise NotExported(f"cannot write {path}: {error.strerror or error}. Nothing was left there") from error
    finally:
        with suppress(FileNotFoundError):  # It is under its own name now.
            remove(beside)


def _put(beside: Path, path: Path) -> None:
    """A link is exclusive, as a rename is not: what came there meanwhile stays."""
    try:
        path.hardlink_to(beside)
    except FileExistsError:
        raise NotExported(f"{path} has come to be meanwhile: it is not replaced") from None
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
            raise
        beside.rename(path)  # A file system without links.


def _put_in_place_of(path: Path, beside: Path) -> None:
    """A folder that holds something cannot be renamed over: the old one steps aside, and comes back on trouble."""
    if not os.path.lexists(path):
        beside.rename(path)
        return
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old")
    path.rename(aside)
    try:
        beside.rename(path)
    except BaseException:
        aside.rename(path)
        raise
    shutil.rmtree(aside)


def _is_ours(inside: Path) -> bool:
    name = inside.name
    is_safetensors = name == _SAFETENSORS_INDEX or (name.startswith("model") and name.endswith(".safetensors"))
    return inside.is_file() and (is_safetensors or name == ".metadata" or name.endswith(".distcp"))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
