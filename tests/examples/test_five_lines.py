"""A torchrun script that knows nothing of Relight, and the same with five lines: killed at will, it ends the same."""

from __future__ import annotations

import difflib
import random
import sys
from pathlib import Path
from typing import Final

import pytest
import torch

from relight.tests.examples.adopting import EXAMPLES, Example, deaths, kill_at, launcher_of

EPOCHS: Final = 4
STEPS: Final = 25 * EPOCHS
FILE: Final = "rings.pt"
IMPORTS: Final = "from __future__ import annotations"
URL: Final = "runs/net"


def lines_of(name: str) -> list[str]:
    return (EXAMPLES / name).read_text(encoding="utf-8").splitlines()


def test_five_lines_are_all_that_it_takes() -> None:
    plain, resumable = lines_of("plain.py"), lines_of("resumable.py")
    plain, resumable = plain[plain.index(IMPORTS) :], resumable[resumable.index(IMPORTS) :]  # Without what they say.
    changes = [line for line in difflib.ndiff(plain, resumable) if line[0] in "+-"]
    assert len([line for line in plain if line.strip()]) >= 60
    assert not any("relight" in line for line in plain)
    assert sum(line.startswith("+") for line in changes) == 5
    assert [line for line in changes if line.startswith("-")] == ["-     for epoch in range(args.epochs):"]


def killed(folder: Path, workers: int, victims: list[tuple[int, int]]) -> Example:
    """The resumable script, run to its end past all these deaths."""
    example = Example(folder, "resumable.py", "--epochs", str(EPOCHS), "--workers", str(workers))
    with example.under_relight() as process:
        launcher = launcher_of(process) if victims else None
        for rank, step in victims:
            assert launcher is not None
            kill_at(launcher, rank, step, process)
        assert process.wait(200) == 0, example.text
    return example


def weights(example: Example) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(example.folder / FILE, weights_only=True)  # noqa: TID251 -- the script's own file
    return loaded


def test_killed_three_times_it_has_the_weights_of_the_script_that_knew_nothing_of_it(
    tmp_path: Path, dice: random.Random
) -> None:
    plain = Example(tmp_path / "plain", "plain.py", "--epochs", str(EPOCHS), "--workers", "0")
    assert plain.under_torchrun() == 0, plain.text
    resumable = killed(tmp_path / "resumable", 0, deaths(dice, STEPS, 3))
    assert resumable.text.count("was killed by SIGKILL") == 3
    wanted, weights_now = weights(plain), weights(resumable)
    assert wanted.keys() == weights_now.keys()
    assert all(torch.equal(weights_now[name], value) for name, value in wanted.items())


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_ten_times_it_ends_as_if_nothing_had_happened(
    workers: int, tmp_path: Path, dice: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    """With loader workers, whose random augmentation replays, and without."""
    victims = deaths(dice, STEPS, 10)
    undisturbed = killed(tmp_path / "undisturbed", workers, [])
    resumable = killed(tmp_path / "killed", workers, victims)
    with capsys.disabled():
        sys.stdout.write(f"  {workers} loader workers, SIGKILL (rank, step): {victims}\n")
        sys.stdout.write(f"  digest {undisturbed.digest(URL)} undisturbed, {resumable.digest(URL)} killed\n")
    assert resumable.text.count("was killed by SIGKILL") == 10
    assert resumable.digest(URL) == undisturbed.digest(URL)
    assert (resumable.folder / FILE).read_bytes() == (undisturbed.folder / FILE).read_bytes()
