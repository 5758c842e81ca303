"""Failure reports: a dying rank's account reaches the launcher, whether it is ours or torch elastic's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relight.configs.failure import ENV_ERROR_FILE, FailureReport, read_failure

_OURS = """
from relight.configs.failure import FailureReport
try:
    {"loss": float("nan")}["accuracy"]
except KeyError as error:
    FailureReport.of(error, step=12).write()
    raise
"""

_TORCHS = """
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    raise ValueError("the text: with a colon")

main()
"""


def _run_rank(program: str, error_file: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, ENV_ERROR_FILE: str(error_file)} if error_file else os.environ
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_rank_tells_what_where_and_when(tmp_path: Path) -> None:
    before_ns = time.monotonic_ns()
    assert _run_rank(_OURS, tmp_path / "error.json").returncode == 1
    report = read_failure(tmp_path / "error.json")
    assert report is not None
    assert (report.kind, report.message, report.step) == ("KeyError", "'accuracy'", 12)
    assert report.traceback.startswith("Traceback (most recent call last):\n")
    assert report.traceback.endswith("KeyError: 'accuracy'\n")
    assert before_ns < report.at_ns < time.monotonic_ns()


def test_what_torchs_record_writes_is_read_as_well(tmp_path: Path) -> None:
    assert _run_rank(_TORCHS, tmp_path / "error.json").returncode == 1
    report = read_failure(tmp_path / "error.json")
    assert report is not None
    assert (report.kind, report.message) == ("ValueError", "the text: with a colon")
    assert 'raise ValueError("the text: with a colon")' in report.traceback or "in main" in report.traceback
    assert report.step == -1


def test_without_a_launcher_there_is_nobody_to_tell() -> None:
    rank = _run_rank(_OURS, None)
    assert rank.stderr.endswith("KeyError: 'accuracy'\n")
    assert rank.stderr.count("Traceback") == 1


def test_a_report_that_cannot_be_written_does_not_hide_the_error() -> None:
    rank = _run_rank(_OURS, Path("/dev/full"))
    assert rank.stderr.endswith("KeyError: 'accuracy'\n")
    assert rank.stderr.count("Traceback") == 1


def test_an_answer_to_the_user_carries_no_traceback() -> None:
    report = FailureReport.of(ValueError("the URL holds another run"), with_traceback=False)
    assert (report.message, report.traceback, report.step) == ("the URL holds another run", "", -1)


def test_a_chained_error_is_told_with_its_cause() -> None:
    error = RuntimeError("the save failed")
    error.__cause__ = OSError("no space left")
    report = FailureReport.of(error)
    assert (report.kind, report.message) == ("RuntimeError", "the save failed")
    assert "OSError: no space left\n" in report.traceback


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"message": "RuntimeError: plain text"}, FailureReport("RuntimeError", "plain text", "", -1, 0)),
        ({"message": {"message": "E: m", "extraInfo": {}}}, FailureReport("E", "m", "", -1, 0)),
        (
            {"message": {"message": "E: m", "extraInfo": {"py_callstack": "Traceback", "timestamp": "1"}}},
            FailureReport("E", "m", "Traceback", -1, 0),
        ),
    ],
)
def test_torchs_forms_are_all_read(tmp_path: Path, document: object, expected: FailureReport) -> None:
    path = tmp_path / "error.json"
    path.write_text(json.dumps(document))
    assert read_failure(path) == expected


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"kind": "Val',
        "[]",
        "null",
        "7",
        '"text"',
        "{}",
        '{"at_ns": 1}',
        '{"message": {}}',
        '{"message": 7}',
        "\xff",
    ],
)
def test_what_is_no_report_is_not_taken_for_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "error.json"
    path.write_bytes(content.encode("latin-1"))
    assert read_failure(path) is None


def test_a_rank_that_left_no_report_is_not_an_error(tmp_path: Path) -> None:
    assert read_failure(tmp_path / "absent.json") is None
