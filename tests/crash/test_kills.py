"""Real processes, ended by a real SIGKILL or met by a real EIO at every single system call that changes the storage."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.storage import sweep
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Standing
from relight.storage.digest import digest
from relight.storage.retention import Rules
from relight.storage.verify import verify
from relight.tests.crash.checking import expected_digest
from relight.tests.crash.one_save import KEEP_LAST, STEP
from relight.tests.crash.traced import Traced, traced
from relight.tests.storage.checkpoints import attempt_id, save, steps

pytestmark = pytest.mark.needs("strace", "root")  # Attaching to a process that is no child of ours takes root.

CALLS = "fsync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir"


@pytest.fixture(scope="module")
def savers() -> Iterator[Traced]:
    with traced("relight.tests.crash.one_save") as server:
        yield server


@pytest.fixture
def prepared(in_memory: Path) -> Path:
    """A run with two checkpoints, the older of which the save's retention lets go."""
    backend = LocalBackend(in_memory / "prepared")
    for step in (5, 10):
        save(backend, attempt_id(step))
    return in_memory / "prepared"


@pytest.mark.parametrize(
    ("fault", "endings"), [("signal=KILL", {"killed"}), ("error=EIO", {"committed", "failed"})], ids=["SIGKILL", "EIO"]
)
def test_a_fault_at_any_system_call_of_a_save_loses_nothing(
    savers: Traced, prepared: Path, capsys: pytest.CaptureFixture[str], fault: str, endings: set[str]
) -> None:
    began = time.monotonic()
    counts = _count(savers, prepared)
    assert counts["fsync"] > 15
    assert counts["link"] + counts["linkat"] == 5
    found: Counter[str] = Counter()
    for call, count in sorted(counts.items()):
        for number in range(1, count + 1):
            root = prepared.parent / f"{call}-{number}"
            shutil.copytree(prepared, root)
            inject = f"inject={call}:{fault}:when={number}"
            ended = savers.run(root, ["-e", f"trace={call}", "-e", inject, "-o", os.devnull])
            found[ended.split()[0]] += 1
            _check(root, f"{call} {number}: {ended}", ended)
            shutil.rmtree(root)
    with capsys.disabled():
        places = ", ".join(f"{count} {call}" for call, count in sorted(counts.items()))
        print(f"\n{fault} at each of {places}: {dict(found)}, 0 lost; {time.monotonic() - began:.1f} s")
    assert set(found) == endings


def test_the_real_disk_syncs_all_that_it_should(savers: Traced, prepared: Path) -> None:
    """The recording disk of the crash states believes the real one; here the kernel is asked."""
    log = prepared.parent / "trace"
    assert savers.run(prepared, ["-y", "-e", "trace=write,fsync,linkat,unlink,mkdir", "-o", str(log)]) == "committed"
    unsynced: set[str] = set()
    linked = 0
    for line in log.read_text().splitlines():
        call, _, rest = line.partition("(")
        inside = [path for path in re.findall(r'[<"]([^>"]+)[>"]', rest) if path.startswith(str(prepared))]
        if call == "write":
            unsynced |= set(inside)
        elif call == "fsync":
            unsynced -= set(inside)
        elif call == "linkat":
            assert inside[0] not in unsynced, "a name was given to bytes that may be lost"
            unsynced.add(str(Path(inside[1]).parent))
            linked += 1
        elif inside:
            if Path(inside[0]).name in {"manifest.json", "receipts"}:
                assert str(Path(inside[0]).parent) not in unsynced, f"{line} came before what it follows was durable"
            unsynced.add(str(Path(inside[0]).parent))
    assert linked == 5
    assert not unsynced - {str(prepared / "checkpoints"), str(prepared / "checkpoints" / attempt_id(5).name)}


def _count(savers: Traced, prepared: Path) -> Counter[str]:
    root, log = prepared.parent / "counted", prepared.parent / "trace"
    shutil.copytree(prepared, root)
    ended = savers.run(root, ["-e", f"trace={CALLS}", "-o", str(log)])
    assert ended == "committed"
    assert steps(LocalBackend(root)) == [STEP, 10]
    return Counter(re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE))


def _check(root: Path, what: str, ended: str) -> None:
    backend = LocalBackend(root)
    listing = list(Catalog(backend).listing())
    assert Standing.DAMAGED not in {listed.standing for listed in listing}, what
    committed = [listed.manifest for listed in listing if listed.standing is Standing.COMMITTED]
    for manifest in committed:
        assert manifest is not None
        assert verify(backend, manifest) == [], what
        assert digest(backend, manifest) == expected_digest(manifest.step), what
    there = steps(backend)
    assert 10 in there, what
    assert STEP in there or ended != "committed", what
    assert STEP not in there or not ended.startswith("failed"), what
    now = attempt_id(30, attempt=2)
    save(backend, now)
    sweep.maintain(backend, now, Rules(keep_last=KEEP_LAST))
    assert {path.name for path in (root / "checkpoints").iterdir()} == {
        now.name,
        attempt_id(max(step for step in there)).name,
    }, what
