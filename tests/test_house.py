"""The rules of the house that no linter knows: sizes, names, what may be used where, what may not stand in a file."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
ROOMS: Final = ("configs", "storage", "workers", "orchestrator", "verbs")

MAX_LINES: Final = 250
MAX_TEST_LINES: Final = 300
MAX_FUNCTION_LINES: Final = 60


def _project_files(*patterns: str) -> list[Path]:
    """What is, or would be, under version control."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted(path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file())


PYTHON: Final = _project_files("*.py")
PACKAGE: Final = [path for path in PYTHON if path.relative_to(ROOT).parts[0] in ROOMS or path.parent == ROOT]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_short() -> None:
    lengths = {_name(path): _lines(path) for path in PYTHON}
    longest = {_name(path): MAX_LINES if path in PACKAGE else MAX_TEST_LINES for path in PYTHON}
    assert not {name: length for name, length in lengths.items() if length > longest[name]}


def test_functions_fit_a_screen() -> None:
    functions = (
        (f"{_name(path)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for path in PACKAGE
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert not [(where, lines) for where, lines in functions if lines > MAX_FUNCTION_LINES]


def test_no_module_is_a_drawer_for_anything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert not [_name(path) for path in PYTHON if path.stem in drawers or path.parent.name in drawers]


def _absolute_imports(path: Path) -> Iterator[str]:
    """With the imported name: `from torch import nn` is torch.nn."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _importing(prefixes: tuple[str, ...], room: str = "") -> list[str]:
    return [
        f"{_name(path)}: {name}"
        for path in PACKAGE
        for name in _absolute_imports(path)
        if _name(path).startswith(room) and f"{name}.".startswith(prefixes)
    ]


def test_workers_know_no_launcher() -> None:
    launchers = ("torch.distributed.elastic.", "torch.distributed.run.", "torch.distributed.launch")
    assert not _importing(launchers, room="workers/")


def test_inside_the_package_imports_are_relative() -> None:
    assert not _importing(("relight.",))


def test_nothing_names_a_registry_or_a_place_on_somebodys_machine() -> None:
    # Written with brackets so that this file does not name them either.
    foreign = re.compile(rb"pyp[i]\.|pythonhoste[d]|npmj[s]\.|deb\.debia[n]|/hom[e]/|/roo[t]/|/wor[k]/|/User[s]/")
    found = {_name(path): foreign.findall(path.read_bytes()) for path in _project_files()}
    assert not {name: hits for name, hits in found.items() if hits}


def test_the_first_commands_stand_on_the_readmes_first_screen() -> None:
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20]
    commands = [line.split()[0] for line in first_screen if line.startswith("./")]
    assert commands[:2] == ["./launch.sh", "./tests/run"]


def test_every_link_between_the_pages_leads_somewhere() -> None:
    links = (
        (page, target)
        for page in _project_files("*.md")
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target
    )
    assert not [f"{_name(page)}: {target}" for page, target in links if not (page.parent / target).exists()]


@pytest.mark.needs("shellcheck")
def test_the_scripts_are_sound() -> None:
    scripts = [path for path in _project_files() if path.read_bytes()[:20].startswith(b"#!/usr/bin/env bash")]
    assert {_name(path) for path in scripts} >= {"launch.sh", "tests/run", "tests/check", ".ci/run"}
    checked = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert checked.stdout == ""
