"""Reads every hostile run as the product does, watched: `python -m relight.tests.storage.hostile_reader DIRECTORY`.

Prints one JSON line per case: what was complained of, what crashed, what was touched, and the memory it took.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tracemalloc
from pathlib import Path
from typing import Any

from relight.storage import generations, runs
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Standing
from relight.storage.digest import digest
from relight.storage.errors import StorageError
from relight.storage.verify import verify
from relight.tests.storage.checkpoints import save
from relight.tests.storage.hostile_cases import ID, Plant, cases

_EXECUTING = ("exec", "compile", "import", "pickle.", "marshal.", "subprocess.", "os.system", "os.exec", "ctypes.")
_watched: list[str] = []
_root: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _root:
        return
    if event.startswith(_EXECUTING):
        _watched.append(f"{event} {arguments!r:.100}")
    if event in {"open", "os.listdir", "os.scandir"} and isinstance(arguments[0], str | Path):
        path = os.path.normpath(os.fspath(arguments[0]))
        # A single name is opened in a folder that is open, without following a link.
        if (os.sep in path or path == os.pardir) and not f"{path}/".startswith(f"{_root[0]}/"):
            _watched.append(f"{event} {path}")


class _Complaints(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(record.getMessage())


def read(root: Path) -> list[str]:
    """Everything there is, by every way there is; what the product complains of."""
    backend = LocalBackend(root)
    complaints: list[str] = []
    handler = _Complaints(complaints)
    logging.getLogger("relight").addHandler(handler)
    try:
        for act in (lambda: runs.read(backend), lambda: generations.read_all(backend)):
            try:
                act()
            except StorageError as error:
                complaints.append(str(error))
        complaints.extend(_read_checkpoints(backend))
    finally:
        logging.getLogger("relight").removeHandler(handler)
    return complaints


def _read_checkpoints(backend: LocalBackend) -> list[str]:
    complaints = []
    try:
        listing = list(Catalog(backend).listing())
    except StorageError as error:
        return [str(error)]
    for listed in listing:
        if listed.standing is not Standing.COMMITTED or listed.manifest is None:
            complaints.append(f"{listed.id.name}: {listed.standing}: {listed.reason}")
            continue
        complaints.extend(map(str, verify(backend, listed.manifest)))
        try:
            digest(backend, listed.manifest)
        except StorageError as error:
            complaints.append(str(error))
    return complaints if listing else ["there is no checkpoint"]


def watch(name: str, plant: Plant, folder: Path) -> dict[str, Any]:
    root, outside = folder / "run", folder / "outside"
    shutil.copytree(folder / "good", root)
    outside.mkdir()
    plant(root, outside)
    declared = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file())
    found: dict[str, Any] = {"name": name, "complaints": [], "crash": ""}
    _watched.clear()
    _root.append(str(root))
    tracemalloc.start()
    try:
        found["complaints"] = read(root)
    except BaseException as error:  # noqa: BLE001 -- any is a finding
        found["crash"] = f"{type(error).__name__}: {error}"
    found["memory"] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    _root.clear()
    shutil.rmtree(root)
    shutil.rmtree(outside)
    return found | {"declared": declared, "touched": list(_watched)}


def main() -> None:
    folder = Path(sys.argv[1])
    good = LocalBackend(folder / "good")
    runs.register(good, {"name": "hostile"})
    generations.claim(good, incarnation="one", resumed_from=None, host="here")
    save(good, ID, world_size=1)
    assert read(folder / "good") == []
    # Whatever is imported or compiled at first use is so now.
    for name, plant in cases():
        watch(name, plant, folder)
    sys.addaudithook(_audit)
    for name, plant in cases():
        sys.stdout.write(json.dumps(watch(name, plant, folder)) + "\n")


if __name__ == "__main__":
    main()
