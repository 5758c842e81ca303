"""Bad input gets one clear error with the way out and exit code 78; nothing is written and nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run


def assert_refused(run: Run, *says: str, overrides: tuple[str, ...] = ()) -> None:
    assert run.finish(*overrides, timeout_s=90) == 78, run.text
    assert "Traceback" not in run.text, run.text
    for words in says:
        assert words in run.text
    # One error: no second rank and no launcher says it once more.
    assert run.text.count("relight: ") == 1, run.text


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("checkpoint.evry=5", ("checkpoint.evry", "checkpoint.every")),
        ("train.epochs=many", ("train.epochs", "many")),
        ("train.batch_size=1", ("train.batch_size=1", "2 ranks", "Set it to at least 4")),
        ("task=tiny_task:Tinny", ("tiny_task:Tinny", "Tiny")),
        ("task=no_such_module:Task", ("no_such_module", "module:Class")),
        ("task_args.colour=red", ("task_args", "colour")),
    ],
)
def test_a_config_that_cannot_work_is_refused_by_key(folder: Path, override: str, says: tuple[str, ...]) -> None:
    run = Run(folder)
    assert_refused(run, *says, overrides=(override,))
    assert not list(run.url.glob("checkpoints/*"))


def test_a_missing_config_is_refused_with_what_there_is(folder: Path) -> None:
    run = Run(folder)
    (folder / "config.yaml").unlink()
    assert_refused(run, "config.yaml", "digits")


@pytest.mark.needs("root")
def test_unwritable_storage_is_refused_before_anything_starts(folder: Path) -> None:
    run = Run(folder, "storage.url=/proc/relight")
    assert_refused(run, "/proc/relight", "storage.url")
    assert not list(folder.glob("pid-*")), "workers were started"


def test_a_path_that_is_a_file_is_refused(folder: Path) -> None:
    (folder / "taken").write_text("mine")
    assert_refused(Run(folder, f"storage.url={folder}/taken"), "taken", "storage.url")
    assert (folder / "taken").read_text() == "mine"


def test_another_run_s_storage_is_refused_and_left_as_it_is(undisturbed: Run, folder: Path) -> None:
    run = Run(folder)
    shutil.copytree(undisturbed.url, run.url)
    before = _contents(run.url)
    assert_refused(run, "holds another run", "seed=0", "seed=1", "storage.url", overrides=("train.seed=1",))
    assert _contents(run.url) == before


def test_a_parameter_that_changed_its_shape_is_refused_by_name_before_anything_is_applied(
    undisturbed: Run, folder: Path
) -> None:
    run = Run(folder)
    shutil.copytree(undisturbed.url, run.url)
    before = _contents(run.url)
    says = ("nothing was applied", "model/0.weight: shape [32, 16] in the checkpoint, [48, 16] here", "storage.url")
    assert_refused(run, *says, overrides=("task_args.width=48",))
    assert _contents(run.url) == before


def test_a_bug_that_repeats_stops_after_two_tries_with_its_traceback_printed_once(folder: Path) -> None:
    run = Run(folder, "task_args.fail_at=13")
    assert run.finish() == 70, run.text
    assert run.text.count("Traceback") == 1
    assert run.text.count("\nArithmeticError: planted at step 13") == 1
    assert run.committed()[0]["step"] == 10


def _contents(folder: Path) -> dict[str, bytes]:
    """All that is stored but the journal, which tells of refused starts too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "journal"
    }
