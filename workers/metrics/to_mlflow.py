"""Scalars for MLflow: one run there for all lives of a run here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .logger import Outcome, RunFacts
from .requiring import require

TAG: Final = "relight.run"
_MOST_PARAMS: Final = 100
_LONGEST_PARAM: Final = 500
_STATUS: Final = {Outcome.FINISHED: "FINISHED", Outcome.PREEMPTED: "SCHEDULED", Outcome.FAILED: "FAILED"}


class MLflow:
    """`experiment` is the run's name unless given; `tracking_uri` as MLFLOW_TRACKING_URI says unless given.

    A step that an earlier life has logged stays as it was: history there is only ever added to.
    """

    def __init__(self, *, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        require("mlflow", "mlflow", "the logger mlflow")
        self._experiment = experiment
        self._tracking_uri = tracking_uri
        self._client: Any = None
        self._run_id = ""
        self._goes_on = False
        self._first_step = 0
        self._there: dict[str, set[int]] = {}
        self._sent: Any = None

    def begin(self, run: RunFacts) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._first_step = run.first_step
        self._client = MlflowClient(tracking_uri=self._tracking_uri)
        experiment = self._experiment_id(self._experiment or run.name)
        found = self._client.search_runs([experiment], filter_string=f"tags.`{TAG}` = '{run.id}'", max_results=1)
        self._goes_on = bool(found)
        if found:
            self._run_id = found[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            return
        made = self._client.create_run(experiment, run_name=run.name, tags={TAG: run.id, "relight.url": run.url})
        self._run_id = made.info.run_id
        params = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in _flat(run.config)]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._run_id, params=params[first : first + _MOST_PARAMS])

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now_ms = round(time.time() * 1000)
        new = [Metric(name, value, now_ms, step) for name, value in scalars.items() if step not in self._logged(name)]
        if new:
            # By threads of its own: a server's answer takes longer than a step.
            self._sent = self._client.log_batch(self._run_id, metrics=new, synchronous=False)

    def end(self, outcome: Outcome) -> None:
        if self._client is None:
            return
        if self._sent is not None:
            self._sent.wait()
        self._client.set_terminated(self._run_id, status=_STATUS[outcome])

    def _experiment_id(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        made: str = found.experiment_id if found is not None else self._client.create_experiment(name)
        return made

    def _logged(self, name: str) -> set[int]:
        """The steps that are done again and that an earlier life has logged; not all up to one, if it was killed."""
        if name not in self._there:
            history = self._client.get_metric_history(self._run_id, name) if self._goes_on else []
            self._there[name] = {entry.step for entry in history if entry.step >= self._first_step}
        return self._there[name]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
