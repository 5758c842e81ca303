"""Workers that were never born, or were killed for being late, have not finished, whoever asked them to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relight.configs.protocol import ENV_RUN_DIR, ExitCode
from relight.orchestrator.forking.group import Group
from relight.orchestrator.forking.spawning import Entry
from relight.orchestrator.hosts.alone import Alone
from relight.orchestrator.hosts.meeting import Broken, Cause
from relight.orchestrator.launcher import LaunchSpec
from relight.tests.orchestrator.launching import SCRIPTS, Launched, meanwhile, spec_of
from relight.tests.waiting import wait_until


@pytest.fixture
def unready(tmp_path: Path) -> Iterator[Launched]:
    """A launcher whose zygote has not got as far as to start a worker."""
    group = Group(os.environ | {"OMP_NUM_THREADS": "1"})
    os.kill(group._zygote.pid, signal.SIGSTOP)
    yield Launched(group, tmp_path, journal=tmp_path / "journal.jsonl")
    group.close()


def called(function: str, *flags: str) -> LaunchSpec:
    """As a configuration's run: a worker that returns has finished the training."""
    return replace(spec_of(*flags, SCRIPTS / "exits.py"), entry=Entry("call", function))


def events(launched: Launched) -> str:
    assert launched.journal is not None
    return launched.journal.read_text() if launched.journal.exists() else ""


@pytest.mark.parametrize("kind", ["call", "script"])
def test_told_to_stop_before_a_worker_is_born_is_preempted(unready: Launched, kind: str) -> None:
    def stop() -> None:
        wait_until(lambda: "joined" in events(unready), what="the launcher to wait for its workers")
        wait_until(lambda: unready.group.running)
        os.kill(os.getpid(), signal.SIGTERM)

    spec = called("os:getpid") if kind == "call" else spec_of(SCRIPTS / "exits.py", "0")
    with meanwhile(stop):
        assert unready.run(spec=spec) == ExitCode.PREEMPTED


def deaf() -> None:
    """A worker that hears no notice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(os.environ[ENV_RUN_DIR], "deaf").touch()
    signal.pause()


def test_killed_after_the_deadline_is_preempted(launched: Launched) -> None:
    def stop() -> None:
        wait_until(lambda: list(launched.scratch.glob("*/deaf")), deadline_s=60)
        os.kill(os.getpid(), signal.SIGTERM)

    with meanwhile(stop):
        code = launched.run(spec=called("relight.tests.orchestrator.test_never_finished:deaf", "--shutdown-timeout=1"))
    assert (code, launched.said[1]) == (ExitCode.PREEMPTED, "killed after 1 s: rank 0")


class AnotherComesIn(Alone):
    """As soon as this host has its place, and before it has a worker, another one wants to come in."""

    def __init__(self, unready: Launched) -> None:
        super().__init__("incarnation", 1)
        self._zygote = unready.group._zygote.pid

    def join(self, attempt: int) -> None:
        super().join(attempt)
        if attempt == 1:
            self.post(Broken("another host comes in", Cause.JOINING))
        else:
            os.kill(self._zygote, signal.SIGCONT)


def test_a_host_that_comes_in_before_a_worker_is_born_is_met(unready: Launched, tmp_path: Path) -> None:
    code = unready.run(SCRIPTS / "facts.py", tmp_path / "out", rendezvous=AnotherComesIn(unready))
    assert (code, unready.said) == (ExitCode.FINISHED, ["starting again together: another host comes in"])
    assert list(tmp_path.glob("out*")), "nothing was done"
