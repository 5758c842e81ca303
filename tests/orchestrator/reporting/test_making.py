"""The page is written whole or not at all, and over nothing that is not a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest

from relight.orchestrator.errors import UsageError
from relight.orchestrator.reporting.errors import NotWritten
from relight.orchestrator.reporting.making import read, write
from relight.orchestrator.reporting.page import page
from relight.orchestrator.reporting.story import Story
from relight.storage.backends.open import open_backend
from relight.tests.orchestrator.reporting.scenes import NOON, eventful
from relight.tests.storage.checkpoints import attempt_id, save


def test_a_report_is_replaced_and_what_is_none_is_not(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    write(out, Story("/runs/one", NOON), UTC)
    write(out, Story("/runs/two", NOON), UTC)
    assert "/runs/two" in out.read_text()
    out.write_text("<html>my thesis</html>")
    with pytest.raises(UsageError) as caught:
        write(out, Story("/runs/three", NOON), UTC)
    assert (
        str(caught.value) == f"{out} is there already, and is no report of ours: name another file, or say --overwrite"
    )
    assert out.read_text() == "<html>my thesis</html>"
    write(out, Story("/runs/three", NOON), UTC, overwrite=True)
    assert "/runs/three" in out.read_text()
    assert out.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert list(tmp_path.iterdir()) == [out]


def test_where_the_file_system_refuses_what_was_there_is_there_still(tmp_path: Path) -> None:
    with pytest.raises(NotWritten) as caught:
        write(tmp_path / "no" / "report.html", Story("/runs/one", NOON), UTC)
    assert str(caught.value) == f"the report cannot be written to {tmp_path}/no/report.html: No such file or directory"
    with pytest.raises(NotWritten) as caught:
        write(tmp_path, Story("/runs/one", NOON), UTC)
    assert str(caught.value) == f"the report cannot be written to {tmp_path}: Is a directory"
    (tmp_path / "here").mkdir()
    out = tmp_path / "here" / "report.html"
    write(out, Story("/runs/one", NOON), UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        with pytest.raises(NotWritten) as caught:
            write(out, Story("/runs/two", NOON), UTC)
    assert str(caught.value) == f"the report cannot be written to {out}: No space left on device"
    assert "/runs/one" in out.read_text()
    assert list(out.parent.iterdir()) == [out]


def test_without_a_journal_the_checkpoints_tell_their_losses(tmp_path: Path) -> None:
    backend = open_backend(str(tmp_path))
    for step in (10, 20, 30):
        save(backend, attempt_id(step))
    story = read(str(tmp_path), NOON)
    assert [(point.step, point.value) for point in story.series[0].stretches[0].points] == [
        (10, 0.5), (20, 0.5), (30, 0.5),
    ]  # fmt: skip
    assert story.series[0].what == "mean over the ranks, at the checkpoints that are there"
    assert [save.step for save in story.saves] == [10, 20, 30]
    assert "No launcher has kept the books" in page(story)


def test_the_command_writes_the_page_or_prints_the_numbers_and_needs_no_torch(tmp_path: Path) -> None:
    eventful(tmp_path / "run")
    assert _relight(tmp_path, "report", "run").stdout == "report.html\n"
    assert "ValueError" in (tmp_path / "report.html").read_text()
    told = json.loads(_relight(tmp_path, "report", "run", "--json").stdout)
    assert [series["name"] for series in told["series"]] == ["loss", "accuracy"]
    (tmp_path / "mine.html").write_text("mine")
    refused = _relight(tmp_path, "report", "run", "mine.html")
    assert (refused.returncode, refused.stderr) == (
        2, "relight: mine.html is there already, and is no report of ours: name another file, or say --overwrite\n",
    )  # fmt: skip
    assert _relight(tmp_path, "report", "run", "mine.html", "--overwrite").returncode == 0
    missing = _relight(tmp_path, "report", "none")
    assert (missing.returncode, missing.stderr) == (1, f"relight: there is no run at {tmp_path}/none\n")


def _relight(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys\nfrom relight.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    loaded = {'torch', 'numpy', 's3fs'} & set(sys.modules)\n    assert not loaded, loaded\n"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _full(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")
