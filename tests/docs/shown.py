"""What README and docs/*.md show: commands, and scripts that are whole.

A fenced block without a language, or of `sh`, holds commands: its lines that begin with the name of a program (a `$`
may stand before it). Everything else in it is output. A block of `python whole` is a script that runs as it stands;
other Python is a part of one.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_TRAINING: Final = ("relight", "torchrun", "accelerate", "./launch.sh", "./tests/run", "sbatch", "srun")
_OTHERS: Final = ("python", "pip", "weed", "source", "export", "kill", "pkill", "mkdir", "cat", "curl", "aws", "strace")
PROGRAMS: Final = frozenset({*_TRAINING, *_OTHERS, "tensorboard", "kubectl"})
_BLOCK: Final = re.compile(r"^```([^\n]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Shown:
    """A command, and where it is shown."""

    page: str
    line: str

    @property
    def words(self) -> list[str]:
        """Its arguments, without what the shell would do besides."""
        line = re.sub(r"@(\d+)\d\b", r"@\g<1>0", self.line)  # The tests' run has those of whole tens.
        words = shlex.split(line, comments=True)
        return words[:-1] if words[-1:] == ["&"] else words

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language of each fenced block, and its text."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def order(page: Path) -> list[Shown | str]:
    """Commands, and scripts that are whole, as they are shown one after another."""
    found: list[Shown | str] = []
    for language, text in blocks(page):
        if language == "python whole":
            found.append(text)
        elif language.strip() in {"", "sh"}:
            found += _commands(page.name, text)
    return found


def commands(page: Path) -> list[Shown]:
    return [each for each in order(page) if isinstance(each, Shown)]


def _commands(page: str, text: str) -> list[Shown]:
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        program, _, arguments = line.removeprefix("$ ").strip().partition(" ")
        if program in PROGRAMS and arguments:
            found += [Shown(page, part.strip()) for part in _one_by_one(f"{program} {arguments}")]
    return found


def _one_by_one(line: str) -> list[str]:
    """Commands that share a line."""
    return re.split(r";(?=(?:[^'\"]|'[^']*'|\"[^\"]*\")*$)", line.partition("  #")[0])
