"""The words between launcher and workers are frozen: scripts, schedulers and older workers rely on them."""

from __future__ import annotations

from relight.configs import protocol
from relight.configs.protocol import ExitCode


def test_exit_codes_never_change_their_meaning() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "FINISHED": 0,
        "FAILED": 1,
        "USAGE": 2,
        "GAVE_UP": 70,
        "PREEMPTED": 75,
        "BAD_CONFIG": 78,
        "INTERRUPTED": 130,
    }


def test_no_exit_code_reads_as_death_by_sigkill() -> None:
    assert 137 not in set(ExitCode)


def test_environment_names_never_change() -> None:
    names = {name: value for name, value in vars(protocol).items() if name.startswith("ENV_")}
    assert names == {
        "ENV_CONFIG": "RELIGHT_CONFIG",
        "ENV_INCARNATION": "RELIGHT_INCARNATION",
        "ENV_ATTEMPT": "RELIGHT_ATTEMPT",
        "ENV_RUN_DIR": "RELIGHT_RUN_DIR",
        "ENV_MEMORY_DIR": "RELIGHT_MEMORY_DIR",
        "ENV_FAILURES": "RELIGHT_FAILURES",
    }
