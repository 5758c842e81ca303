"""The GPT that ships: killed twice, it ends as if nothing had happened, and what it has learnt can be read."""

from __future__ import annotations

import os
import random
import re
import signal
from pathlib import Path
from typing import Final

import pytest

from relight.tests.e2e.running import Run, started
from relight.tests.e2e.test_example import workers_of

STEPS: Final = 120
TINY: Final = (
    "task_args={context: 32, layers: 2, heads: 2, width: 64, dropout: 0.1, val_windows: 20, sample_bytes: 60}",
    f"train.steps={STEPS}",
    "train.batch_size=8",
    "train.lr=0.003",
    "checkpoint.every=15",
    "hang.floor_s=30",
)


class Preset(Run):
    """The preset itself, with storage and trace in the test's folder."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        folder.mkdir()
        places = (f"storage.url={folder}/run", f"log.trace={folder}/trace-{{rank}}.jsonl")
        super().__init__(folder, *places, *overrides)
        self._config = Path("gpt")

    def sample(self) -> str:
        """What was printed before the end was told."""
        found = re.search(r"\na sample:\n\n(.*)\n\nfinished: gpt", self.text, flags=re.DOTALL)
        assert found, self.text
        return found[1]


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        pytest.param(TINY, STEPS, id="tiny", marks=pytest.mark.timeout(600)),
        pytest.param((), 0, id="as it ships", marks=[pytest.mark.soak, pytest.mark.timeout(7200)]),
    ],
)
def test_killed_twice_it_finishes_with_the_same_loss_curve(
    tmp_path: Path, dice: random.Random, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], steps: int
) -> None:
    undisturbed, killed = Preset(tmp_path / "undisturbed", *overrides), Preset(tmp_path / "killed", *overrides)
    assert undisturbed.finish(timeout_s=3000) == 0, undisturbed.text
    steps = steps or undisturbed.steps_done()
    with started(killed) as process:
        for first, last in ((steps // 8, steps // 3), (steps // 2, steps * 3 // 4)):
            killed.await_step(dice.randrange(first, last))
            os.kill(dice.choice(workers_of(process.pid)), signal.SIGKILL)
        assert process.wait(3000) == 0, killed.text
    resumed = re.findall(r"resumed from step (\d+)", killed.text)
    assert len(resumed) == 2, killed.text
    for rank in range(2):
        trace, wanted = killed.trace(rank), undisturbed.trace(rank)
        assert trace.items() <= wanted.items()
        # A rank that is killed between the save of a step and its line in the trace does not do the step once more.
        assert wanted.keys() - trace.keys() <= set(map(int, resumed))
        assert list(wanted) == list(range(1, steps + 1))
    assert killed.digest() == undisturbed.digest()
    assert killed.sample() == undisturbed.sample()
    losses = [line["loss"] for line in undisturbed.trace(0).values()]
    validated = undisturbed.committed()[0]["metrics"]
    with capsys.disabled():
        print(f"resumed from steps {' and '.join(resumed)} of {steps}: loss {losses[0]:.3f} to {losses[-1]:.3f}")
        print(f"validated: {validated}")
        print(undisturbed.sample())
    assert validated["loss"] < losses[0] - 1
