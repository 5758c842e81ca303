"""The example that ships, on real images with a real model: it learns, and a kill in the middle changes no bit."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run, started
from relight.tests.processes import descendants

ACCURACY = 0.95
HALF = 69
"""Of the steps."""


class Digits(Run):
    """The preset itself, with storage and trace in the test's folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        places = (f"storage.url={folder}/run", f"log.trace={folder}/trace-{{rank}}.jsonl")
        super().__init__(folder, *places, "data.num_workers=2", "checkpoint.every=20", "checkpoint.keep_last=9")
        self._config = Path("digits")


@pytest.mark.timeout(600)
def test_the_example_learns_and_is_the_same_after_a_kill(tmp_path: Path, dice: random.Random) -> None:
    undisturbed, killed = Digits(tmp_path / "undisturbed"), Digits(tmp_path / "killed")
    assert undisturbed.finish(timeout_s=280) == 0, undisturbed.text
    # The second half is enough: to have begun it from a checkpoint changes as little as the kill.
    shutil.copytree(undisturbed.url, killed.url)
    for checkpoint in undisturbed.committed():
        if checkpoint["step"] > HALF:
            shutil.rmtree(killed.url / "checkpoints" / checkpoint["name"])
    when = dice.randrange(HALF + 10, 2 * HALF - 10)
    with started(killed) as process:
        killed.await_step(when)
        os.kill(dice.choice(workers_of(process.pid)), signal.SIGKILL)
        assert process.wait(280) == 0, killed.text
    said = r"relight: [\d:]+ rank \d on \S+ was killed by SIGKILL at step \d+; restarting \(attempt 2\)"
    assert re.search(said, killed.text)
    assert killed.text.count("resumed from step") == 2

    accuracy = killed.committed()[0]["metrics"]["accuracy"]
    print(f"validation accuracy {accuracy:.4f}")
    assert accuracy >= ACCURACY
    assert killed.digest() == undisturbed.digest()
    for rank in range(2):
        assert killed.losses(rank).items() <= undisturbed.losses(rank).items()
    for words in ("accuracy", str(killed.url), "relight ls", "relight verify"):
        assert words in killed.text.split("finished: digits")[1]


def workers_of(launcher: int) -> list[int]:
    """The trainers: each leads a session of its own, as do their persisters."""
    leaders = [pid for pid in descendants(launcher) if os.getsid(pid) == pid]
    return [pid for pid in leaders if b"persister_main" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
