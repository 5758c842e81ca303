"""Neither sockets nor event loops survive a fork: a client that was used before one connects anew in the child."""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import Final

import pytest

from relight.tests.servers import Server, environment

pytestmark = pytest.mark.needs("weed")

PROGRAM: Final = """
import os, sys
from relight.storage.backends.open import open_backend

backend = open_backend(sys.argv[1])
backend.put("before", b"parent's")
child = os.fork()
if child == 0:
    code = 1
    try:
        assert backend.read("before") == b"parent's"
        backend.put("after", bytes(20 << 20))
        code = 0
    finally:
        os._exit(code)
backend.put("beside", b"parent's")
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child failed"
assert [entry.key for entry in backend.list("")] == ["after", "before", "beside"]
assert backend.size("after") == 20 << 20
"""


def test_a_client_goes_on_in_a_forked_child_and_in_its_parent(seaweed: Server) -> None:
    """In a process of its own: the tests' has threads that a fork would not copy."""
    command = [sys.executable, "-c", PROGRAM, seaweed.url(uuid.uuid4().hex)]
    with environment(seaweed.environment):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
