"""Finding the user's task, and what a user is told who has made a mistake."""

from __future__ import annotations

import sys
import textwrap
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

from relight.configs.protocol import ExitCode
from relight.configs.schema import TrainConfig
from relight.workers.errors import BadTask
from relight.workers.task import Task, load_task

JOB = """
    from torch import nn
    from relight.workers.task import Task

    class Job(Task):
        def __init__(self, train, *, width=3):
            super().__init__(train)
            self.width = width

        def model(self):
            return nn.Linear(self.width, 1)

        def train_data(self):
            return [1.0]

        def loss(self, model, batch):
            return model(batch).mean()

    class Measured(Job):
        def val_data(self):
            return [1.0]

    class Unfinished(Task):
        def model(self):
            return None

    class Fussy(Job):
        def __init__(self, train):
            raise TypeError("a bug of the user's own")

    class Outer:
        Inner = Job

    NUMBER = 3
"""
TRAIN = TrainConfig(lr=0.5)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of the user's with `their_job.py` in it, which is not on the path yet."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.startswith("their_")]:
        monkeypatch.delitem(sys.modules, name)
    write(tmp_path, "their_job", JOB)
    return tmp_path


def write(directory: Path, module: str, text: str) -> None:
    (directory / f"{module}.py").write_text(textwrap.dedent(text))


def refusal(spec: str, **task_args: object) -> str:
    with pytest.raises(BadTask) as caught:
        load_task(spec, TRAIN, task_args)
    assert caught.value.exit_code is ExitCode.BAD_CONFIG
    return str(caught.value)


def test_a_task_is_found_beside_the_working_directory_and_gets_its_arguments() -> None:
    task = load_task("their_job:Job", TRAIN, {"width": 7})
    model = task.model()
    assert isinstance(model, nn.Linear)
    assert (model.in_features, task.train.lr) == (7, 0.5)


def test_a_task_may_be_an_attribute_of_a_class() -> None:
    assert type(load_task("their_job:Outer.Inner", TRAIN)).__name__ == "Job"


def test_the_defaults_are_adamw_at_the_configured_rate_without_schedule_or_validation() -> None:
    task = load_task("their_job:Job", TRAIN)
    optimizer = task.optimizer(task.model())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert task.scheduler(optimizer, total_steps=10) is None
    assert task.val_data() is None


@pytest.mark.parametrize("spec", ["their_job", "their_job:", ":Job", ""])
def test_a_spec_without_module_and_class_is_refused(spec: str) -> None:
    assert refusal(spec) == (
        f"task: {spec!r} is not a task. "
        "Write it as module:Class, where module can be imported from the directory you start in"
    )


@pytest.mark.parametrize(("spec", "missing"), [("their_lost:Job", "their_lost"), ("their_lost.job:Job", "their_lost")])
def test_a_missing_module_is_named_with_where_it_was_looked_for(spec: str, missing: str, workplace: Path) -> None:
    assert refusal(spec) == (
        f"task: {spec!r}: there is no module {missing!r}, neither installed nor in {workplace}. "
        "Write it as module:Class, where module can be imported from the directory you start in"
    )


def test_a_module_taken_for_a_package_is_refused(workplace: Path) -> None:
    assert refusal("their_job.sub:Job").startswith(
        f"task: 'their_job.sub:Job': there is no module 'their_job.sub', neither installed nor in {workplace}. "
    )


def test_a_missing_class_is_refused_with_the_tasks_that_are_there(workplace: Path) -> None:
    assert refusal("their_job:Jop") == (
        f"task: 'their_job:Jop': their_job ({workplace}/their_job.py) has no Jop. "
        "Tasks there: Job, Measured, Unfinished, Fussy"
    )


def test_what_is_no_task_is_refused(workplace: Path) -> None:
    tasks = "Tasks there: Job, Measured, Unfinished, Fussy"
    assert (
        refusal("their_job:NUMBER")
        == f"task: 'their_job:NUMBER': NUMBER is not a class derived from relight.Task. {tasks}"
    )
    write(workplace, "their_bare", "class Job: pass")
    assert refusal("their_bare:Job") == (
        "task: 'their_bare:Job': Job is not a class derived from relight.Task. There are no tasks in it"
    )


def test_an_unfinished_task_is_refused_with_what_it_lacks() -> None:
    assert refusal("their_job:Unfinished") == "task: 'their_job:Unfinished' does not define loss(), train_data()"


def test_validation_data_without_metrics_is_refused_before_the_first_epoch() -> None:
    assert refusal("their_job:Measured") == "task: 'their_job:Measured' does not define metrics()"


def test_arguments_that_do_not_fit_are_refused_with_those_that_would() -> None:
    assert refusal("their_job:Job", widht=7) == (
        "task_args do not fit their_job:Job: got an unexpected keyword argument 'widht'. It takes width"
    )
    assert refusal("their_job:Fussy", width=7).endswith("It takes none")


def test_a_bug_in_the_users_constructor_keeps_its_own_face() -> None:
    with pytest.raises(TypeError, match="a bug of the user's own"):
        load_task("their_job:Fussy", TRAIN)


def test_an_import_that_fails_inside_the_users_module_is_not_disguised(workplace: Path) -> None:
    write(workplace, "their_broken", "import their_missing_dependency")
    with pytest.raises(ModuleNotFoundError) as caught:
        load_task("their_broken:Job", TRAIN)
    assert caught.value.name == "their_missing_dependency"
    assert f"{workplace}/their_broken.py" in "".join(traceback.format_exception(caught.value))


def test_a_tasks_own_error_while_importing_is_not_disguised(workplace: Path) -> None:
    write(workplace, "their_wrong", "from torch import no_such_thing")
    with pytest.raises(ImportError, match="no_such_thing"):
        load_task("their_wrong:Job", TRAIN)


def test_a_task_cannot_be_made_by_hand_without_its_methods() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Task(TRAIN)  # type: ignore[abstract]
