"""The example that ships, on real images with a real model: it learns, and a kill in the middle changes no bit."""

from __future__ import annotations

import os
import random
import re
import signal
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run, started
from relight.tests.waiting import wait_until

ACCURACY = 0.95


class Digits(Run):
    """The preset itself, with storage and trace in the test's folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        places = (f"storage.url={folder}/run", f"log.trace={folder}/trace-{{rank}}.jsonl")
        super().__init__(folder, *places, "data.num_workers=2", "checkpoint.every=20")
        self._config = Path("digits")


@pytest.mark.timeout(600)
def test_the_example_learns_and_is_the_same_after_a_kill(tmp_path: Path, dice: random.Random) -> None:
    undisturbed, killed = Digits(tmp_path / "undisturbed"), Digits(tmp_path / "killed")
    assert undisturbed.finish(timeout_s=280) == 0, undisturbed.text
    when = dice.randrange(30, 100)
    with started(killed) as process:
        wait_until(lambda: killed.steps_done() >= when, deadline_s=200, what=f"step {when}")
        os.kill(dice.choice(workers_of(process.pid)), signal.SIGKILL)
        assert process.wait(280) == 0, killed.text
    assert re.search(r"relight: rank \d was killed by SIGKILL at step \d+; restarting \(attempt 2\)", killed.text)
    assert "resumed from step" in killed.text

    accuracy = killed.committed()[0]["metrics"]["accuracy"]
    print(f"validation accuracy {accuracy:.4f}")
    assert accuracy >= ACCURACY
    assert killed.digest() == undisturbed.digest()
    for rank in range(2):
        assert killed.losses(rank) == undisturbed.losses(rank)
    for words in ("accuracy", str(killed.url), "relight ls", "relight verify"):
        assert words in killed.text.split("finished: digits")[1]


def workers_of(launcher: int) -> list[int]:
    """The trainers: what the launcher's zygote has forked and has a heartbeat, known by the leader of its session."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    return [trainer for zygote in children[launcher] for trainer in children.get(zygote, [])]
