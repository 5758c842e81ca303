"""Every flag, variable and option gets its meaning."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from relight.configs.load import load
from relight.orchestrator.commandline import split
from relight.orchestrator.errors import UsageError
from relight.orchestrator.forking.spawning import Entry
from relight.orchestrator.hosts.meeting import Meeting
from relight.orchestrator.judging.policy import Settings
from relight.orchestrator.launcher import LaunchSpec, resolve
from relight.orchestrator.processors import likely_processes
from relight.tests.orchestrator.launching import spec_of

DIGITS = ("launch.nproc_per_node=3", "restart.max_without_progress=2", "preemption.deadline_s=7", "storage.url=/x")


def spec_of_config(*flags: str, overrides: tuple[str, ...] = DIGITS) -> LaunchSpec:
    command = split([*flags, "digits", *overrides], {})
    return resolve(command, load("digits", overrides), {})


def test_a_config_brings_its_own_numbers() -> None:
    spec = spec_of_config()
    assert spec.entry == Entry("call", "relight.workers.main:main")
    assert spec.processes == 3
    assert spec.settings == Settings(max_without_progress=2, backoff_s=1.0, backoff_max_s=60.0)
    assert spec.preemption_deadline_s == 7
    assert spec.job.config == load("digits", DIGITS).model_dump_json()
    assert spec.job.max_restarts == 2


def test_a_flag_wins_over_the_config() -> None:
    spec = spec_of_config("--nproc-per-node=1", "--max-restarts=9")
    assert spec.processes == 1
    assert spec.settings == Settings(2, 1.0, 60.0, max_restarts=9)
    assert spec.job.max_restarts == 9


def test_the_shutdown_timeout_is_the_deadline_of_a_preemption_with_every_torch() -> None:
    assert spec_of_config("--shutdown-timeout=3").preemption_deadline_s == 3


def test_auto_is_two_workers_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 0)
    assert spec_of_config(overrides=("storage.url=/x",)).processes == 2
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 8)
    assert spec_of_config(overrides=("storage.url=/x",)).processes == 8


def test_a_script_gets_torchruns_defaults() -> None:
    spec = spec_of("train.py", "--lr", "1")
    assert spec.entry == Entry("script", "train.py", ("--lr", "1"))
    assert (spec.processes, spec.meeting, spec.address, spec.port) == (1, Meeting(), "127.0.0.1", 0)
    assert spec.settings == Settings()
    assert spec.preemption_deadline_s == 60
    assert spec.stop_signals == {signal.SIGHUP}


def test_max_restarts_is_the_rule_for_a_script_that_tells_no_progress() -> None:
    assert spec_of("--max-restarts=20", "train.py").settings == Settings(max_without_progress=21, max_restarts=20)
    assert spec_of("--max-restarts=200", "train.py").settings.max_failures == 200
    assert spec_of("--max-restarts=0", "train.py").settings == Settings(max_restarts=0)


def test_variables_mean_what_they_mean_to_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"PET_NPROC_PER_NODE": "3", "PET_MAX_RESTARTS": "4", "PET_RDZV_ID": "job", "PET_MASTER_PORT": "1234"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    spec = resolve(split(["train.py"], variables), None, variables)
    assert (spec.processes, spec.settings.max_restarts, spec.job.run_id, spec.port) == (3, 4, "job", 1234)


@pytest.mark.parametrize(
    ("flags", "meeting"),
    [
        ("--nnodes=1", Meeting()),
        ("--standalone --nnodes=2 --rdzv-id=x", Meeting(run_id="x")),
        (
            "--nnodes=2 --node-rank=1 --master-addr=head",
            Meeting("static", "head:29500", "none", 2, 2, None, {"rank": 1}),
        ),
        (
            "--nnodes=1:4 --rdzv-backend=c10d --rdzv-endpoint=head:1 --rdzv-id=j --rdzv-conf=join_timeout=5,a=b",
            Meeting("c10d", "head:1", "j", 1, 4, None, {"join_timeout": "5", "a": "b"}),
        ),
        ("--rdzv-backend=c10d --local-addr=me", Meeting("c10d", "", "none", 1, 1, "me", {})),
    ],
)
def test_how_hosts_meet(flags: str, meeting: Meeting) -> None:
    assert spec_of(*flags.split(), "train.py").meeting == meeting


def test_a_lone_host_may_choose_its_port() -> None:
    spec = spec_of("--master-addr=localhost", "--master-port=4711", "train.py")
    assert (spec.address, spec.port) == ("localhost", 4711)


def test_streams(tmp_path: Path) -> None:
    spec = spec_of("--redirects=0:1,1:3", f"--log-dir={tmp_path}", "--local-ranks-filter=0,1", "train.py")
    logs = tmp_path / "attempt_4"
    assert spec.streams.files(0, 4) == (str(logs / "0" / "stdout.log"), None)
    assert spec.streams.files(1, 4) == (str(logs / "1" / "stdout.log"), str(logs / "1" / "stderr.log"))
    assert spec.streams.files(2, 4) == ("/dev/null", "/dev/null")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--nproc-per-node=many", "--nproc-per-node: Unsupported nproc_per_node value: many"),
        ("--nproc-per-node=0", "--nproc-per-node=0: at least one worker is needed"),
        ("--max-restarts=-1", "--max-restarts=-1: 0 or more"),
        ("--nnodes=a:b", "--nnodes=a:b: a number, or MIN:MAX"),
        ("--nnodes=1:2:3", "--nnodes=1:2:3: a number, or MIN:MAX"),
        ("--nnodes=3:2", "--nnodes=3:2: at least one host, and MIN no more than MAX"),
        (
            "--nnodes=2 --rdzv-backend=c10d --rdzv-conf=a",
            "--rdzv-conf=a: KEY=VALUE, several with commas between them",
        ),
        ("-r 3", "--redirects needs --log-dir: where are the files to be?"),
        ("--signals-to-handle=SIGFOO", "--signals-to-handle: there is no signal SIGFOO"),
    ],
)
def test_values_that_cannot_be(flags: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        spec_of(*flags.split(), "train.py")
    assert str(caught.value) == message


def test_signals_to_handle_are_listened_to() -> None:
    spec = spec_of("--signals-to-handle=SIGUSR2, SIGTERM", "train.py")
    assert spec.stop_signals == {signal.SIGUSR2, signal.SIGTERM}


@pytest.mark.parametrize(
    ("line", "environment", "count"),
    [
        ("x.py", {}, 1),
        ("x.py", {"PET_NPROC_PER_NODE": "3"}, 3),
        ("--nproc-per-node 4 x.py", {}, 4),
        ("--nproc_per_node=5 x.py", {}, 5),
        ("--nproc-per-node=gpu x.py", {"CUDA_VISIBLE_DEVICES": "0,1,3"}, 3),
        ("digits", {"CUDA_VISIBLE_DEVICES": "0"}, 1),
        ("digits", {"CUDA_VISIBLE_DEVICES": ""}, 2),
        ("digits launch.nproc_per_node=7", {}, 7),
    ],
)
def test_the_number_of_workers_is_guessed_without_torch(line: str, environment: dict[str, Any], count: int) -> None:
    command = split(line.split(), environment)
    config = load("digits", command.rest) if line.startswith("digits") else None
    assert likely_processes(command, config, environment) == count
