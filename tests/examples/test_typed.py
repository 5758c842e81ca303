"""A user's type checker sees the public names' types, and every public name says what it does."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import relight

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = """
import torch
import relight

model = torch.nn.Linear(1, 1)
checkpoint = relight.Checkpointer("run", model=model, settings=relight.CheckpointSettings(every="5m"))
progress = checkpoint.restore()
reveal_type(progress)
for epoch in progress.epochs(3):
    reveal_type(epoch)
    if checkpoint.step(loss="0.5"):
        raise SystemExit(checkpoint.exit_code)
"""


@pytest.mark.soak
def test_a_users_script_is_checked_against_the_installed_package(tmp_path: Path) -> None:
    """Found on the path of the interpreter, as what is installed is: only `py.typed` makes mypy look into it."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "relight").symlink_to(ROOT)
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".cache/mypy-user"), "train.py"]
    here = {**os.environ, "PYTHONPATH": str(site)}
    said = subprocess.run(
        command, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=280, check=False
    ).stdout
    assert 'Revealed type is "relight.workers.checkpoint.progress.Progress"' in said
    assert 'Revealed type is "int"' in said.replace("builtins.", "")
    assert 'Argument "loss" to "step" of "Checkpointer" has incompatible type "str"' in said
    assert "Found 1 error" in said


@pytest.mark.parametrize("name", [name for name in relight.__all__ if name != "__version__"])
def test_every_public_name_says_what_it_does(name: str) -> None:
    thing = getattr(relight, name)
    assert inspect.getdoc(thing), name
    methods = inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else []
    own = [(each, method) for each, method in methods if method.__module__.startswith("relight.")]
    promised = {each for protocol in (relight.Order, relight.Logger) for each in vars(protocol)}  # It says it for all.
    silent = [each for each, method in own if not each.startswith("_") and each not in promised and not method.__doc__]
    assert not silent, f"{name}: {silent}"
