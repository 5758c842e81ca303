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
from relight.configs.protocol import ExitCode

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


class Unspeakable(Exception):
    @property
    def exit_code(self) -> int:
        raise OSError("gone")

    def __str__(self) -> str:
        raise ValueError("no text")


class Answer(RuntimeError):
    exit_code = ExitCode.BAD_CONFIG


class OfAnotherLibrary(Exception):
    exit_code = 78  # click's have one, too.


def test_an_error_whose_own_methods_raise_is_told_all_the_same() -> None:
    report = FailureReport.of(Unspeakable())
    assert (report.kind, report.message) == ("Unspeakable", "(its text cannot be had: ValueError in __str__)")
    assert (report.module, report.exit_code) == (__name__, 1)


def test_an_error_with_an_exit_code_of_ours_is_an_answer() -> None:
    report = FailureReport.of(Answer("the URL holds another run"))
    assert (report.exit_code, report.traceback, report.bases) == (78, "", ("RuntimeError",))
    foreign = FailureReport.of(OfAnotherLibrary("x"))
    assert foreign.exit_code == 1
    assert foreign.traceback


def test_what_an_error_came_from_is_told_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        try:
            try:
                dict[str, int]()["first"]
            except KeyError:
                raise MemoryError("second")  # noqa: B904  # Raised while the other is handled.
        except MemoryError as error:
            raise ValueError("third") from error

    with pytest.raises(ValueError) as caught:
        fail()
    report = FailureReport.of(caught.value)
    assert [(cause.kind, cause.handled) for cause in report.causes] == [("MemoryError", False), ("KeyError", True)]
    assert report.causes[1].bases == ("LookupError",)
    monkeypatch.setenv(ENV_ERROR_FILE, str(tmp_path / "report"))
    assert report.write()
    assert read_failure(tmp_path / "report") == report


def test_the_members_of_a_group_are_what_it_comes_from() -> None:
    group = ExceptionGroup("two tasks", [ValueError("a"), ExceptionGroup("inner", [TypeError("b")])])
    assert [cause.kind for cause in FailureReport.of(group).causes] == ["ValueError", "ExceptionGroup", "TypeError"]


def test_errors_that_come_from_each_other_in_a_circle_are_told_once() -> None:
    first, second = ValueError("a"), TypeError("b")
    first.__cause__, second.__cause__ = second, first
    assert [cause.kind for cause in FailureReport.of(first).causes] == ["TypeError"]


def test_a_huge_text_is_cut_in_the_middle() -> None:
    report = FailureReport.of(ValueError(f"begin {'x' * 1_000_000} end"))
    assert len(report.message) < 40_000
    assert report.message.startswith("begin ")
    assert report.message.endswith(" end")
    assert "characters left out" in report.message
    assert len(report.traceback) < 140_000


def test_a_text_that_is_no_unicode_can_be_printed() -> None:
    report = FailureReport.of(ValueError(b"caf\xe9".decode(errors="surrogateescape")))
    assert report.message == "caf\\udce9"
    report.traceback.encode()
