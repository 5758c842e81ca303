"""The labelled fault suite: two real ranks fail in every way that is known, and the launcher names class and rank."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relight.configs.load import load
from relight.orchestrator.commandline import split
from relight.orchestrator.launcher import LaunchSpec, resolve
from relight.tests.faults.crashes import CRASHES, LOADERS, OUT_OF_MEMORY
from relight.tests.faults.errors import EXCEPTIONS, EXITS
from relight.tests.faults.labelled import Case
from relight.tests.faults.outside import BETWEEN_RANKS, CONFIGURED, MACHINE, STORAGE
from relight.tests.orchestrator.launching import Launched, spec_of

CASES = [
    *EXCEPTIONS, *EXITS, *CRASHES, *OUT_OF_MEMORY, *LOADERS, *BETWEEN_RANKS, *MACHINE, *STORAGE, *CONFIGURED,
]  # fmt: skip
SHARE = 0.95

judged: dict[str, tuple[bool, bool]] = {}
"""By case: whether the class was right, and the rank."""


def spec_for(case: Case, folder: Path) -> LaunchSpec:
    flags = ["--nproc-per-node=2", "--max-restarts=0", *(flag.replace("LOGS", str(folder)) for flag in case.flags)]
    if case.overrides:
        overrides = (*case.overrides, f"storage.url={folder / 'run'}", "train.batch_size=4", "train.epochs=1")
        return resolve(split([*flags, "digits", *overrides], {}), load("digits", overrides), {})
    if case.target:
        return spec_of(*flags, *case.target)
    script = folder / "script.py"
    script.write_text(case.source.replace("FOLDER", str(folder)))
    return spec_of(*flags, script)


def first_failure(journal: Path | None) -> dict[str, Any] | None:
    assert journal is not None
    lines: Iterator[dict[str, Any]] = (json.loads(line) for line in journal.read_text().splitlines())
    return next((line for line in lines if line["event"] == "failed"), None)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_class_rank_and_exit_code_are_right(case: Case, launched: Launched, tmp_path: Path) -> None:
    judged[case.name] = False, False
    code = launched.run(spec=spec_for(case, tmp_path))
    failure = first_failure(launched.journal)
    kind, rank = (failure["kind"], failure["rank"]) if failure is not None else (None, None)
    judged[case.name] = kind == case.kind, rank == case.first or case.first is None or case.kind is None

    said = launched.said[-1] if launched.said else ""
    assert (kind, code) == (case.kind, case.code), said
    assert judged[case.name][1], f"rank {rank}: {said}"
    assert case.said.replace("HOST", socket.gethostname()) in said


def test_the_suite_as_a_whole() -> None:
    """The cases before this one have run; where only some were asked for, only those count."""
    kinds, ranks = (sum(right[place] for right in judged.values()) for place in (0, 1))
    print(f"\nlabelled faults: class right {kinds} of {len(judged)}, first rank right {ranks} of {len(judged)}")
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)
    assert kinds >= SHARE * len(judged)
    assert ranks >= SHARE * len(judged)
