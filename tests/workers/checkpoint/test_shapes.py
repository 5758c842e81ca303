"""A checkpoint holds the global state: saved by any world under any wrap, it goes on in any other."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from relight.tests.workers.checkpoint.shapes import LR, MORE, STEPS, WRAPS
from relight.tests.workers.ranks import play

SCENES = "relight.tests.workers.checkpoint.shapes"
WORLDS = (1, 2, 4)
TOLERANCE = 1e-5
"""Of a loss, relative: sums of float32 are taken in another order by another number of ranks."""


KINDS = [f"{wrap}-{world_size}" for world_size in WORLDS for wrap in WRAPS]
AT_ONCE = 6
PLACES = itertools.count()

Saved = tuple[Path, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """By wrap and world: what the ranks told after saving."""
    directory = tmp_path_factory.mktemp("shapes")
    told = {}
    for world_size in WORLDS:
        answers = play(f"{SCENES}:saving", world_size, directory)
        for wrap in WRAPS:
            assert all(answer[wrap]["losses"] == answers[0][wrap]["losses"] for answer in answers)
            told[f"{wrap}-{world_size}"] = answers[0][wrap]
    return directory, told


@pytest.mark.timeout(900)
def test_what_one_wrap_and_world_saved_goes_on_in_another(saved: Saved) -> None:
    """Every kind is saved once, and goes on as itself and as another."""
    check(saved, [(kind, KINDS[(place + shift) % len(KINDS)]) for place, kind in enumerate(KINDS) for shift in (0, 5)])


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_what_any_wrap_and_world_saved_goes_on_in_every_other(saved: Saved) -> None:
    check(saved, [(kind, other) for kind in KINDS for other in KINDS])


def check(saved: Saved, pairs: list[tuple[str, str]]) -> None:
    """The same global state, and the steps of the undisturbed run: to the bit where wrap and world are the same."""
    directory, told = saved
    worst, equal = 0.0, 0
    for pair in resumed(directory, pairs):
        name = f"{pair['from']} as {pair['as']}"
        undisturbed = told[pair["from"]]
        assert (pair["step"], pair["digest"]) == (STEPS, undisturbed["digest"]), name
        apart = max(abs(a / b - 1) for a, b in zip(pair["losses"], undisturbed["losses"], strict=True))
        equal += apart == 0
        worst = max(worst, apart)
        assert apart <= (0 if pair["from"] == pair["as"] else TOLERANCE), name
    print(
        f"{len(pairs)} pairs: the digest of the saved one; {MORE} steps on (AdamW, lr {LR}) the loss is equal "
        f"to the bit in {equal}, and at most {worst:.1e} of it apart in the others"
    )


def resumed(directory: Path, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    answers = []
    for world_size in WORLDS:
        own = [(kind, other.split("-")[0]) for kind, other in pairs if other.endswith(f"-{world_size}")]
        for first in range(0, len(own), AT_ONCE):
            some = [(*pair, f"again-{next(PLACES)}") for pair in own[first : first + AT_ONCE]]
            (directory / "pairs.json").write_text(json.dumps(some))
            answers += play(f"{SCENES}:resuming", world_size, directory)[0]
    assert len(answers) == len(pairs)
    return answers
