"""What docs/data.md shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relight.workers.checkpoint.loaders import Reshardable
from relight.workers.sampler import GlobalBatchSampler

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def block_with(words: str) -> str:
    (block,) = [block for block in BLOCKS if words in block]
    return str(block)


def test_the_script_runs_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(block_with("relight.steps(loader, model)"), encoding="utf-8")
    twice = "import runpy; runpy.run_path('train.py'); runpy.run_path('train.py')"  # Torch is imported once.
    command = [sys.executable, "-c", twice]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=True).stderr
    assert "starting from step 0" in said
    assert "resumed from step 32 (epoch 2" in said


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ("| `batch_size: 32` | 32, 32, 18, 18:", {"batch_size": 32}),
        ("| `batch_size: 40` | 40, 40, 20 |", {"batch_size": 40}),
        ("| `batch_size: 32`, `drop_last: true` | 32, 32, 32;", {"batch_size": 32, "drop_last": True}),
    ],
)
def test_batches_are_cut_as_the_table_says(row: str, options: dict[str, Any]) -> None:
    assert row in TEXT
    sampler = GlobalBatchSampler(100, rank=0, world_size=1, seed=0, **options)
    assert [str(len(batch)) for batch in sampler] == re.split(r", ", row.split(" | ")[1].rstrip(" |:;"))


def test_the_order_of_ones_own_is_one() -> None:
    scope: dict[str, Any] = {}
    exec(block_with("class HardestFirst"), scope)
    sampler = GlobalBatchSampler(3, batch_size=3, rank=0, world_size=1, seed=0, order=scope["HardestFirst"]([1, 9, 4]))
    assert list(sampler) == [[1, 2, 0]]
    assert sampler.facts()["order"] == "hardest first"


def test_the_stream_of_files_gives_every_record_once_when_three_ranks_become_two() -> None:
    scope: dict[str, Any] = {"records": lambda name, start: [f"{name}{number}" for number in range(start, 5)]}
    exec(block_with("class FileStream"), scope)
    stream = scope["FileStream"]
    old = [stream("abcd", rank, 3) for rank in range(3)]
    seen = [next(iter(each)) for each in old]
    states = [each.state_dict() for each in old]
    assert isinstance(old[0], Reshardable)
    for rank in range(2):
        new: Any = stream("abcd", rank, 2)
        new.load_state_dict(new.reshard(states, rank, 2))
        seen += new
    assert sorted(seen) == sorted(f"{name}{number}" for name in "abcd" for number in range(5))
