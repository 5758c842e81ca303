"""Whether the kernel has killed for want of memory: what its files say, and a process that it really kills."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.orchestrator.kernel import CGROUPS, oom_kills


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 7\noom_kill 99\n")
    return tmp_path / "proc"


@pytest.mark.parametrize(
    ("groups", "file", "text", "count"),
    [
        ("0::/job/step_0\n", "job/step_0/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 0\n", 3),
        ("0::/\n", "memory.events", "oom_kill 2\n", 2),
        ("0::/../elsewhere\n", "memory.events", "oom_kill 2\n", 2),
        ("5:cpu:/x\n4:memory:/job\n0::/\n", "memory/job/memory.oom_control", "under_oom 0\noom_kill 5\n", 5),
        ("4:memory:/docker/ab12\n", "memory/memory.oom_control", "oom_kill_disable 0\noom_kill 1\n", 1),
        ("0::/job\n", "other", "", 99),
        ("garbage\n", "other", "", 99),
    ],
    ids=["v2", "v2 in a container", "v2 in another namespace", "v1", "v1 in a container", "no count", "garbage"],
)
def test_the_count_stands_where_the_kernel_keeps_it(
    tmp_path: Path, proc: Path, groups: str, file: str, text: str, count: int
) -> None:
    (proc / "self/cgroup").write_text(groups)
    (tmp_path / "cgroups" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cgroups" / file).write_text(text)
    assert oom_kills(proc, tmp_path / "cgroups") == count


def test_where_nobody_counts_nothing_is_known(tmp_path: Path) -> None:
    assert oom_kills(tmp_path, tmp_path) == 0


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of this machine that has 32 MiB; skipped where none can be made."""
    version_1 = CGROUPS / "memory"
    parent, limit = (version_1, "memory.limit_in_bytes") if version_1.is_dir() else (CGROUPS, "memory.max")
    group = parent / f"relight-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(32 << 20))
    except OSError as error:
        pytest.skip(f"no control group with a limit can be made here: {error}")
    yield group
    group.rmdir()


GREEDY = """
import os, pathlib, sys
(pathlib.Path(sys.argv[1]) / "cgroup.procs").write_text(str(os.getpid()))
held = bytearray(256 << 20)
held[::4096] = b"x" * len(held[::4096])
"""


@pytest.mark.needs("root")
def test_a_process_that_the_kernel_kills_for_its_memory_is_counted(tmp_path: Path, small_group: Path) -> None:
    (tmp_path / "self").mkdir()
    number, kind = (4, "memory") if (CGROUPS / "memory").is_dir() else (0, "")
    (tmp_path / "self/cgroup").write_text(f"{number}:{kind}:/{small_group.name}\n")
    before = oom_kills(tmp_path)
    greedy = subprocess.run([sys.executable, "-c", GREEDY, str(small_group)], check=False, timeout=60)
    assert greedy.returncode == -9
    assert oom_kills(tmp_path) == before + 1
