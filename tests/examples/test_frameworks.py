"""What Fabric and Accelerate wrap is known: names stay the user's, and a killed loop of theirs goes on exactly."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Final

import pytest
import torch

from relight.orchestrator.commands import inspection
from relight.tests.examples.adopting import EXAMPLES, Example, deaths, kill_at, launcher_of
from relight.tests.workers import forge

STEPS: Final = 100
LOOPS: Final = {"fabric": "lightning_fabric", "hf": "accelerate"}
SCRIPTS: Final = {"fabric": "fabric_loop.py", "hf": "accelerate_loop.py"}


def digest(url: Path) -> str:
    return inspection.digest_checkpoint(str(url), lambda passed_over: None)


@pytest.mark.parametrize("loop", LOOPS)
def test_killed_once_it_ends_as_if_nothing_had_happened(loop: str, tmp_path: Path, dice: random.Random) -> None:
    """In the middle of an epoch: of the first, or of a later one, whose order depends on its number."""
    rank, step = dice.randrange(2), dice.randrange(10, STEPS - 5)
    lives = [(str(tmp_path / "whole"), []), (str(tmp_path / "killed"), [rank, step]), (str(tmp_path / "killed"), [])]
    output = tmp_path / "output.txt"
    failed = forge.run(
        "relight.tests.examples.lives:main", [str(EXAMPLES / SCRIPTS[loop]), LOOPS[loop], json.dumps(lives)], {}, output
    )
    assert not failed, output.read_text()
    (resumed,) = re.findall(r"resumed from step (\d+)", output.read_text())
    assert 0 < int(resumed) <= step
    assert digest(tmp_path / "killed" / "runs" / loop) == digest(tmp_path / "whole" / "runs" / loop)
    shown = inspection.show_checkpoint(str(tmp_path / "whole" / "runs" / loop))
    model = {name for name in shown["tensors"] if name.startswith("model/")}
    assert model == {f"model/{name}" for name in ("0.weight", "0.bias", "3.weight", "3.bias")}


@pytest.mark.soak
@pytest.mark.parametrize("loop", LOOPS)
def test_killed_five_times_under_relight_it_ends_as_if_nothing_had_happened(
    loop: str, tmp_path: Path, dice: random.Random
) -> None:
    runs = {name: Example(tmp_path / name, SCRIPTS[loop]) for name in ("whole", "killed")}
    for name, example in runs.items():
        with example.under_relight() as process:
            for rank, step in deaths(dice, 60, 5) if name == "killed" else []:
                kill_at(launcher_of(process), rank, step, process)
            assert process.wait(200) == 0, example.text
    assert runs["killed"].text.count("was killed by SIGKILL") == 5
    assert runs["killed"].digest(f"runs/{loop}") == runs["whole"].digest(f"runs/{loop}")


def test_ranks_that_cannot_reach_each_other_are_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from relight import Checkpointer
    from relight.workers.errors import BadWorld

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadWorld) as caught:
        Checkpointer(str(tmp_path), model=torch.nn.Linear(1, 1))
    assert "this is rank 0 of 2, and torch.distributed is not initialized" in str(caught.value)
    assert "init_process_group()" in str(caught.value)
