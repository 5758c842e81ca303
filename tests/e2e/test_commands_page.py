"""docs/commands.md is true: every command it shows is run, and prints what the page says, but for the numbers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from relight.tests.e2e.running import Run
from relight.tests.verbs.door import Door

PAGE: Final = Path(__file__).parents[2] / "docs/commands.md"
EXIT_CODES: Final = {"relight diff runs/digits@60 runs/digits": 1}
_NUMBERS: Final = (
    (re.compile(r"\b[0-9a-f]{32}\b"), "DIGEST"),
    (re.compile(r"-[0-9a-f]{6}\b"), "-NONCE"),
    (re.compile(r"\d+(\.\d+)?(e[+-]\d+)?"), "0"),
    (re.compile(r"0 (s|min|h)( 0 s)?\b"), "AGE"),
    (re.compile(r"(/\S+)?/runs/"), "/runs/"),
    (re.compile(r"\s+"), " "),
)


def shown() -> Iterator[tuple[str, list[str]]]:
    """Each command on the page with the lines that it prints."""
    for block in re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL):
        for part in block.split("$ ")[1:]:
            command, *lines = part.splitlines()
            yield command, lines


def alike(line: str) -> str:
    for pattern, word in _NUMBERS:
        line = pattern.sub(word, line)
    return line.strip()


def matches(said: list[str], printed: list[str]) -> bool:
    """`...` stands for any lines."""
    if not said:
        return not printed
    if said[0] == "...":
        return any(matches(said[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    return bool(printed) and alike(said[0]) == alike(printed[0]) and matches(said[1:], printed[1:])


def test_every_command_on_the_page_prints_what_the_page_says(undisturbed: Run, tmp_path: Path, door: Door) -> None:
    shutil.copytree(undisturbed.url, tmp_path / "runs/digits")
    commands = list(shown())
    for command, lines in commands:
        answer = door(*command.split()[1:], cwd=str(tmp_path))
        assert (answer.code, answer.err) == (EXIT_CODES.get(command, 0), ""), (command, answer)
        assert matches(lines, answer.out.splitlines()), (command, answer.out)
    assert {command.split()[1] for command, _ in commands} == {
        "status", "report", "ls", "show", "verify", "diff", "export", "import", "cp", "gc",
    }  # fmt: skip
