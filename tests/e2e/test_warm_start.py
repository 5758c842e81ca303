"""A run that begins with another run's weights, from its config: once, and as the log and the journal say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relight.configs.protocol import ExitCode
from relight.tests.e2e.running import Run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("source"), ranks=1)
    assert run.finish("train.steps=12") == 0, run.text
    return run


def test_a_run_begins_with_another_runs_weights_and_then_goes_on_by_itself(source: Run, tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.finish("train.steps=4", f"init_from={source.url}@12") == 0, run.text
    assert f"relight: beginning with the weights of {source.url} (its checkpoint of step 12)\n  loaded " in run.text
    lines = [line for path in run.url.glob("journal/*.jsonl") for line in path.read_text().splitlines()]
    (event,) = [event for event in map(json.loads, lines) if event["event"] == "begun with weights"]
    assert event["loaded"] == event["tensors"] > 0
    assert run.losses(0)[1] < source.losses(0)[1]

    assert run.finish("train.steps=6", "init_from=nowhere.pt") == 0, run.text
    assert "resumed from step 4" in run.text
    assert run.text.count("beginning with") == 1


def test_weights_that_do_not_fit_are_refused_once_with_the_line_to_write(source: Run, tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.finish(f"init_from={source.url}", f"task_args={{notes: {tmp_path}, width: 16}}") == ExitCode.BAD_CONFIG
    assert run.text.count("does not fit this model; nothing was loaded:") == 1
    assert 'under init_from:\n  exclude: ["' in run.text
