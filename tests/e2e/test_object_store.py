"""The same run with its storage on a real S3 server: killed, resumed, and ended with the same bits."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run
from relight.tests.servers import KEY, SECRET, Server, environment

pytestmark = pytest.mark.needs("weed")


def test_a_run_on_an_object_store_is_killed_and_ends_as_the_local_undisturbed_one(
    undisturbed: Run, seaweed: Server, folder: Path, dice: random.Random
) -> None:
    kills = [[0, dice.randrange(11, 30)], [1, dice.randrange(31, 60)]]
    url = seaweed.url(f"{uuid.uuid4().hex}/run")
    run = Run(folder, f"storage.url={url}", f"task_args.kill={kills}")
    run.address = url
    credentials = {name: value for name, value in seaweed.environment.items() if name != "AWS_ENDPOINT_URL"}
    with environment(credentials):
        assert run.finish() == 0, run.text
        assert run.text.count("was killed by SIGKILL") == len(kills), run.text
        assert "resumed from step" in run.text
        assert run.digest() == undisturbed.digest()
        assert run.losses(0) == undisturbed.losses(0)
        assert run.committed()[0]["step"] == 64
        verified = run.relight("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
    assert not (folder / "run").exists(), "it was written beside the object store"
    left = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert url.encode() in left
    assert KEY.encode() not in left
    assert SECRET.encode() not in left
