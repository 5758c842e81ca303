"""Where things are under a run's URL: names to keys and back. Pure.

Names are parsed by full match and must be spelled exactly as we spell them, so that a `step-100.backup` that somebody
put beside ours is never ours to read or to delete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

RUN_KEY = "run.json"
GENERATIONS = "generations/"
CHECKPOINTS = "checkpoints/"
JOURNAL = "journal/"

_ATTEMPT = re.compile(r"step-([0-9]{12})-g([0-9]{8})-a([0-9]{4,9})-([0-9a-f]{6})")
_GENERATION = re.compile(r"generations/([0-9]{8})\.json")
_SHARD = re.compile(r"rank-([0-9]{5,9})-of-([0-9]{5,9})\.safetensors")


@dataclass(frozen=True, slots=True, order=True)
class AttemptId:
    """One attempt to save one step. Ordered by what it holds and who wrote it, never by time.

    `nonce` (6 hex digits) keeps two attempts apart that agree in all else, so that no key is ever written twice.
    """

    step: int
    generation: int
    attempt: int
    nonce: str

    def __post_init__(self) -> None:
        if _ATTEMPT.fullmatch(self.name) is None:
            message = f"{self.name} is not the name of an attempt: nobody would find it again"
            raise ValueError(message)

    @property
    def name(self) -> str:
        return f"step-{self.step:012d}-g{self.generation:08d}-a{self.attempt:04d}-{self.nonce}"

    @property
    def folder(self) -> str:
        return f"{CHECKPOINTS}{self.name}/"

    @property
    def manifest_key(self) -> str:
        return f"{self.folder}manifest.json"

    @property
    def receipts(self) -> str:
        return f"{self.folder}receipts/"

    def receipt_key(self, rank: int) -> str:
        return f"{self.receipts}rank-{rank:05d}.json"

    def shard_key(self, rank: int, world_size: int) -> str:
        return self.folder + shard_name(rank, world_size)

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The id that `name` (one path component) spells, or None when it is not one of ours."""
        match = _ATTEMPT.fullmatch(name)
        if match is None:
            return None
        step, generation, attempt, nonce = match.groups()
        found = cls(int(step), int(generation), int(attempt), nonce)
        return found if found.name == name else None  # One spelling each: `a00001` is not `a0001`.


def shard_name(rank: int, world_size: int) -> str:
    return f"rank-{rank:05d}-of-{world_size:05d}.safetensors"


def is_shard_name(name: str) -> bool:
    return _SHARD.fullmatch(name) is not None


def generation_key(number: int) -> str:
    return f"{GENERATIONS}{number:08d}.json"


def parse_generation(key: str) -> int | None:
    match = _GENERATION.fullmatch(key)
    return int(match.group(1)) if match else None
