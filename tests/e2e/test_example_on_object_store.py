"""The example that ships, on a real S3 server: a worker is killed, and the run ends with the bits of the local one."""

from __future__ import annotations

import os
import random
import signal
import uuid
from pathlib import Path

import pytest

from relight.tests.e2e.running import started
from relight.tests.e2e.test_example import ACCURACY, Digits, workers_of
from relight.tests.servers import CREDENTIALS, Server, environment


@pytest.mark.soak
@pytest.mark.needs("weed")
@pytest.mark.timeout(900)
def test_the_example_on_an_object_store_is_the_same_after_a_kill_as_the_local_one(
    seaweed: Server, tmp_path: Path, dice: random.Random
) -> None:
    local, remote = Digits(tmp_path / "local"), Digits(tmp_path / "remote")
    assert local.finish(timeout_s=400) == 0, local.text
    remote.address = seaweed.url(f"{uuid.uuid4().hex}/digits")
    with environment(CREDENTIALS):
        with started(remote, f"storage.url={remote.address}") as process:
            remote.await_step(dice.randrange(30, 100))
            os.kill(dice.choice(workers_of(process.pid)), signal.SIGKILL)
            assert process.wait(400) == 0, remote.text
        assert "was killed by SIGKILL" in remote.text
        assert "resumed from step" in remote.text
        assert remote.committed()[0]["metrics"]["accuracy"] >= ACCURACY
        assert remote.relight("verify").returncode == 0
        assert remote.digest() == local.digest()
    assert not remote.url.exists(), "it was written beside the object store"
    for rank in range(2):
        assert remote.losses(rank) == local.losses(rank)
