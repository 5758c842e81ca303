"""Every command that README and docs/*.md show is run, here or elsewhere, and so is every script that is whole."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from relight.tests.docs.elsewhere import ELSEWHERE
from relight.tests.docs.shown import ROOT, Shown, order, pages
from relight.tests.workers import forge

PAGES = {page.name: page for page in pages()}


def test_where_ever_a_command_is_covered_elsewhere_there_is_such_a_test() -> None:
    for covered in filter(None, ELSEWHERE.values()):
        path, _, name = covered.partition("::")
        assert f"def {name or 'test_'}" in (ROOT / path).read_text(encoding="utf-8"), covered


def elsewhere(shown: Shown) -> bool:
    return any(re.search(pattern, shown.line) for pattern in ELSEWHERE)


@pytest.fixture(scope="module")
def played(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each page a folder, in which its commands have changed a copy one after another."""
    folders, todo = {}, {}
    for name, page in PAGES.items():
        shown = [each if isinstance(each, str) else each.words[1:] for each in order(page) if runs_here(each)]
        folders[name] = tmp_path_factory.mktemp("page")
        if shown:
            shutil.copytree(tiny, folders[name], dirs_exist_ok=True)
            todo[str(folders[name])] = shown
    output = tmp_path_factory.mktemp("pages") / "output"
    assert forge.run("relight.tests.docs.commanding:main", [json.dumps(todo)], {}, output) == 0, output.read_text()
    return folders


@pytest.mark.parametrize("name", PAGES)
def test_every_command_and_every_whole_script_that_a_page_shows_does_what_it_should(
    name: str, played: dict[str, Path]
) -> None:
    unknown = [
        str(each) for each in order(PAGES[name]) if not (isinstance(each, str) or elsewhere(each) or known(each))
    ]
    assert not unknown, f"{unknown}: run them, or say in elsewhere.py by which test they are covered"
    failed = played[name] / "failed"
    assert not failed.exists(), failed.read_text()


def runs_here(shown: Shown | str) -> bool:
    if isinstance(shown, str):
        return "init_process_group" not in shown  # It wants ranks: tests/e2e/test_readme.py
    return known(shown) and not elsewhere(shown)


def known(shown: Shown) -> bool:
    return shown.words[0] == "relight" and shown.words[1] not in {"run", "chaos"}
