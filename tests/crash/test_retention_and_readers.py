"""Retention takes checkpoints away while others read, and is killed at every delete: a valid one is always there."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Standing
from relight.storage.digest import digest
from relight.storage.verify import verify
from relight.tests.crash.checking import expected_digest
from relight.tests.crash.one_tidy import NEWEST, tidy
from relight.tests.crash.traced import Traced, traced
from relight.tests.storage.checkpoints import attempt_id, persist_rank, save

QUICK_S, LONG_S = 4.0, 120.0
DELETES = ("unlink", "rmdir")
UNFINISHED, DAMAGED = 15, 25


def read_along(folder: Path, **asked: object) -> dict[str, Any]:
    words = [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "relight.tests.crash.readers", str(folder), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=280, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("seconds", [QUICK_S, pytest.param(LONG_S, marks=pytest.mark.soak)])
@pytest.mark.parametrize("keep_last", [1, 2])
def test_a_reader_always_comes_to_a_valid_checkpoint_no_older_than_was_announced(
    in_memory: Path, capsys: pytest.CaptureFixture[str], keep_last: int, seconds: float
) -> None:
    seed = random.randrange(1_000_000)
    figures = read_along(in_memory, keep_last=keep_last, seconds=seconds, seed=seed)
    with capsys.disabled():
        print(
            f"\nreaders: {figures['looks']} looks during {figures['saves']} saves with keep_last={keep_last}, "
            f"{figures['lost_races']} races with a deletion lost, {len(figures['nothing'])} times nothing, "
            f"{len(figures['stale'])} stale; seed {seed}"
        )
    assert figures["nothing"] == figures["stale"] == []
    assert figures["lost_races"] > 0


def test_the_reader_notices_a_catalog_that_lists_only_once(in_memory: Path) -> None:
    assert read_along(in_memory, catalog="ListsOnce", seconds=2, seed=1)["nothing"]


@pytest.fixture
def prepared(in_memory: Path) -> Path:
    """Six checkpoints, a save that came to nothing, a damaged checkpoint, and what somebody put beside them."""
    root = in_memory / "prepared"
    backend = LocalBackend(root)
    for step in range(10, NEWEST + 1, 10):
        save(backend, attempt_id(step))
    persist_rank(backend, attempt_id(UNFINISHED), 1)
    save(backend, attempt_id(DAMAGED))
    with (root / attempt_id(DAMAGED).shard_key(0, 2)).open("ab") as shard:
        shard.write(b"!")
    for path in foreign(root):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"mine: {path.name}")
    return root


def foreign(root: Path) -> list[Path]:
    checkpoints = root / "checkpoints"
    backup = attempt_id(10).name + ".backup"
    return [
        root / "mine",
        checkpoints / "notes.txt",
        checkpoints / "step-100.backup" / "manifest.json",
        checkpoints / backup / "rank-00000-of-00002.safetensors",
        checkpoints / attempt_id(10).name / "notes.txt",
        checkpoints / attempt_id(20).name / "rank-00000-of-00002.safetensors.old",
        checkpoints / attempt_id(30).name / "receipts" / "notes.txt",
        checkpoints / attempt_id(40).name / "mine" / "manifest.json",
        checkpoints / attempt_id(UNFINISHED).name / "notes.txt",
        checkpoints / attempt_id(NEWEST).name / "notes.txt",
    ]


@pytest.mark.needs("strace", "root")
def test_retention_killed_at_any_delete_leaves_a_valid_checkpoint_and_what_is_not_ours(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with traced("relight.tests.crash.one_tidy") as tidies:
        counts = _count(tidies, prepared)
        for call in DELETES:
            for number in range(1, counts[call] + 1):
                root = prepared.with_name(f"{call}-{number}")
                shutil.copytree(prepared, root)
                inject = f"inject={call}:signal=KILL:when={number}"
                ended = tidies.run(root, ["-e", f"trace={call}", "-e", inject, "-o", os.devnull])
                assert ended == "killed"
                _check(root, f"{call} {number}")
                shutil.rmtree(root)
    with capsys.disabled():
        print(f"\nretention killed at each of {dict(counts)}: 0 lost; {time.monotonic() - began:.1f} s")
    assert counts["unlink"] >= 30
    assert counts["rmdir"] >= 4


def _count(tidies: Traced, prepared: Path) -> Counter[str]:
    root, log = prepared.with_name("counted"), prepared.with_name("trace")
    shutil.copytree(prepared, root)
    ended = tidies.run(root, ["-e", f"trace={','.join(DELETES)}", "-o", str(log)])
    assert ended == "deleted 7"
    _check_tidied(root)
    return Counter(re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE))


def _check(root: Path, what: str) -> None:
    """Whatever is still listed is whole, the newest is, and the next pass of retention finishes the work."""
    backend = LocalBackend(root)
    damaged = [listed.id.step for listed in Catalog(backend).listing() if listed.standing is Standing.DAMAGED]
    assert damaged in ([DAMAGED], []), what
    assert Catalog(backend).find().step == NEWEST, what
    for checkpoint in Catalog(backend).committed():
        assert verify(backend, checkpoint.manifest) == [], what
        assert digest(backend, checkpoint.manifest) == expected_digest(checkpoint.step), what
    _check_foreign(root)
    tidy(str(root))
    _check_tidied(root)


def _check_foreign(root: Path) -> None:
    assert [path.read_text() for path in foreign(root)] == [f"mine: {path.name}" for path in foreign(root)]


def _check_tidied(root: Path) -> None:
    """Nothing is left but the newest checkpoint and what somebody put there."""
    backend = LocalBackend(root)
    assert [listed.id.step for listed in Catalog(backend).listing() if listed.manifest] == [NEWEST]
    _check_foreign(root)
    there = {path for path in (root / "checkpoints").rglob("*") if path.is_file()}
    newest = root / "checkpoints" / attempt_id(NEWEST).name
    assert {path for path in there if newest not in path.parents} == {
        path for path in foreign(root) if newest not in path.parents and path.name != "mine"
    }
