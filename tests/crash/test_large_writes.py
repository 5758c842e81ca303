"""What is written past the page cache is as durable as what goes through it: the power is cut and it is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "losetup", "unshare")

# In namespaces of its own: mounts end with it, however the test ends.
ALONE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-m"]
EXT4 = pytest.param("ext4", marks=pytest.mark.needs("mkfs.ext4"))
XFS = pytest.param("xfs", marks=pytest.mark.needs("mkfs.xfs"))


@pytest.mark.parametrize("kind", [EXT4, XFS])
def test_a_large_write_that_was_acknowledged_survives_a_power_cut(kind: str, in_memory: Path) -> None:
    environment = os.environ | {"TMPDIR": str(in_memory)}
    command = [*ALONE, "relight.tests.crash.large_writes", kind]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=120, check=True)
    figures = json.loads(done.stdout)
    assert figures["written"] == figures["past_the_cache"] == 32
    assert figures["lost"] == 0
