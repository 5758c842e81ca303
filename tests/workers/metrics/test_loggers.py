"""Weights & Biases and MLflow get each step once, whatever is done again.

They need not be installed: what stands in for them takes the calls that theirs take (wandb 0.31, mlflow 3.17), and
keeps what theirs would keep.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from relight.workers.errors import BadLogger
from relight.workers.metrics.logger import Logger, Outcome, RunFacts
from relight.workers.metrics.opening import open_loggers
from relight.workers.metrics.to_mlflow import MLflow
from relight.workers.metrics.to_wandb import WandB

CONFIG = {"train": {"lr": 0.1}, "name": "digits"}
LIVES = ((0, 12, Outcome.FAILED), (8, 15, Outcome.PREEMPTED), (15, 20, Outcome.FINISHED))


def _live(logger: Logger, first: int, last: int, outcome: Outcome) -> None:
    logger.begin(RunFacts(id="cafe", name="digits", url="/runs/x", first_step=first, config=CONFIG))
    for step in range(first + 1, last + 1):
        logger.log(step, {"loss": 1 / step})
        if step % 5 == 0:
            logger.log(step, {"metrics/accuracy": step / 100})
    logger.end(outcome)


def _install(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, module)


@dataclass
class Site:
    """Weights & Biases: runs by id. A step below the one that is written is dropped there with a warning."""

    history: dict[int, dict[str, float]] = field(default_factory=dict)
    inits: list[dict[str, Any]] = field(default_factory=list)
    ends: list[Any] = field(default_factory=list)

    def init(self, *, project: str, id: str, name: str, resume: str, config: dict[str, Any], **more: Any) -> Site:  # noqa: A002 -- theirs
        self.inits.append({"project": project, "id": id, "name": name, "resume": resume, "config": config, **more})
        return self

    @property
    def step(self) -> int:
        return max(self.history, default=-1) + 1

    def log(self, data: dict[str, Any], step: int | None = None, *, commit: bool | None = None) -> None:
        assert step is not None
        assert commit is None
        assert step >= self.step - 1, "it would be dropped, with a warning"
        self.history.setdefault(step, {}).update(data)

    def mark_preempting(self) -> None:
        self.ends.append("preempting")

    def finish(self, exit_code: int | None = None) -> None:
        self.ends.append(exit_code)


def test_wandb_has_one_run_for_all_lives_and_each_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    _install(monkeypatch, "wandb", init=site.init)
    for life in LIVES:
        _live(WandB(tags=["a"]), *life)
    assert site.inits == 3 * [
        {"project": "digits", "id": "cafe", "name": "digits", "resume": "allow", "config": CONFIG, "tags": ["a"]}
    ]
    assert sorted(site.history) == list(range(1, 21))
    assert [step for step, data in site.history.items() if "metrics/accuracy" in data] == [5, 10, 15, 20]
    assert site.ends == [1, "preempting", 1, 0]


@dataclass
class Server:
    """MLflow's tracking server, and its client. Every call adds to a metric's history, also a step that is there."""

    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    params: list[Any] = field(default_factory=list)
    loses: frozenset[int] = frozenset()
    """Steps that its queue had not sent when a life was killed."""

    def __call__(self, *, tracking_uri: str | None) -> Server:
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, "7")

    def search_runs(self, experiment_ids: list[str], filter_string: str, max_results: int) -> list[Any]:
        assert (experiment_ids, max_results) == (["7"], 1)
        found = [run for run, facts in self.runs.items() if filter_string == f"tags.`relight.run` = '{facts['tag']}'"]
        return [SimpleNamespace(info=SimpleNamespace(run_id=run)) for run in found]

    def create_run(self, experiment_id: str, *, run_name: str, tags: dict[str, str]) -> Any:
        self.runs["run-1"] = {"name": run_name, "tag": tags["relight.run"], "status": ["RUNNING"]}
        return SimpleNamespace(info=SimpleNamespace(run_id="run-1"))

    def update_run(self, run_id: str, *, status: str) -> None:
        self.runs[run_id]["status"].append(status)

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), *, synchronous: bool = True) -> Any:
        assert run_id in self.runs
        assert synchronous is not bool(metrics)
        self.params += params
        for metric in metrics:
            if metric.step not in self.loses:
                self.history[metric.key].append(metric)
        return SimpleNamespace(wait=lambda: None)

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        return list(self.history[key])

    def set_terminated(self, run_id: str, *, status: str) -> None:
        self.runs[run_id]["status"].append(status)


def test_mlflow_has_one_run_for_all_lives_and_each_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()

    def metric(key: str, value: float, timestamp: int, step: int) -> Any:
        return SimpleNamespace(key=key, value=value, timestamp=timestamp, step=step)

    _install(monkeypatch, "mlflow", MlflowClient=server)
    _install(monkeypatch, "mlflow.entities", Metric=metric, Param=lambda key, value: (key, value))
    for number, life in enumerate(LIVES):
        server.loses = frozenset({9, 10}) if number == 0 else frozenset()
        _live(MLflow(), *life)
    assert list(server.runs.values()) == [
        {
            "name": "digits",
            "tag": "cafe",
            "status": ["RUNNING", "FAILED", "RUNNING", "SCHEDULED", "RUNNING", "FINISHED"],
        }
    ]
    assert server.params == [("train.lr", "0.1"), ("name", "digits")]
    assert sorted(entry.step for entry in server.history["loss"]) == list(range(1, 21)), "no step twice, and no hole"
    assert [entry.step for entry in server.history["metrics/accuracy"]] == [5, 10, 15, 20]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadLogger) as caught:
        open_loggers(None, [name])
    assert str(caught.value) == f"the logger {name} needs a package that is not installed: pip install {name}"


def test_a_logger_of_ones_own_is_found_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_logging.py").write_text(
        "class Mine:\n"
        "    def __init__(self, colour='blue'): self.colour = colour\n"
        "    def begin(self, run): pass\n"
        "    def log(self, step, scalars): pass\n"
        "    def end(self, outcome): pass\n"
        "class NotOne: pass\n"
    )
    plain, red = open_loggers(None, ["my_logging:Mine", {"my_logging:Mine": {"colour": "red"}}])
    assert (vars(plain)["colour"], vars(red)["colour"]) == ("blue", "red")
    for named, problem in (
        (
            "no_such:Mine",
            f"metrics.loggers: 'no_such:Mine': there is no module 'no_such', neither installed nor in {tmp_path}",
        ),
        ("my_logging:Yours", "metrics.loggers: 'my_logging:Yours': my_logging has no Yours"),
        (
            "my_logging:NotOne",
            "metrics.loggers: my_logging:NotOne is no logger: it needs the methods begin, log and end",
        ),
    ):
        with pytest.raises(BadLogger) as caught:
            open_loggers(None, [named])
        assert str(caught.value) == problem
    with pytest.raises(BadLogger) as caught:
        open_loggers(None, [{"my_logging:Mine": {"size": 3}}])
    assert "my_logging:Mine cannot be made with the options {'size': 3}: " in str(caught.value)
