"""The import rules are alive: every one of them catches its violation, in a copy of the package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
ROOMS: Final = ("configs", "storage", "workers", "orchestrator", "verbs")

_VIOLATIONS: Final = {
    "storage is a ground floor": ("storage/planted.py", "from ..configs import schema"),
    "configs is a ground floor": ("configs/planted.py", "import fsspec"),
    "workers and orchestrator never import": ("orchestrator/planted.py", "from ..workers import errors"),
    "verbs is the roof": ("storage/planted.py", "from ..verbs import manners"),
    "in the orchestrator only what launches": ("orchestrator/planted.py", "import torch"),
    "arrows point one way": ("configs/errors.py", "from . import schema"),
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package and its settings. `lint-imports` looks for the package in its working directory first."""
    package = tmp_path / "relight"
    for room in ROOMS:
        shutil.copytree(ROOT / room, package / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "pyproject.toml"):
        shutil.copy(ROOT / name, package)
    return tmp_path


def _lint(house: Path) -> list[str]:
    """Names of the broken contracts."""
    linted = subprocess.run(
        ["lint-imports", "--config", "relight/pyproject.toml", "--no-cache"],
        cwd=house,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts: " in linted.stdout, linted.stdout
    return [line.partition("BROKEN")[0] for line in linted.stdout.splitlines() if "BROKEN" in line]


@pytest.mark.parametrize("rule", _VIOLATIONS)
def test_a_violated_rule_is_caught(house: Path, rule: str) -> None:
    file, code = _VIOLATIONS[rule]
    with (house / "relight" / file).open("a") as source:
        source.write(f"\n{code}\n")
    assert any(name.startswith(rule) for name in _lint(house))


def test_the_house_as_it_is_breaks_no_rule(house: Path) -> None:
    assert _lint(house) == []
