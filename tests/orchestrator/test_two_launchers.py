"""Two launchers on this machine, as users start them on two hosts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from relight.configs.protocol import ExitCode
from relight.tests.orchestrator.launching import SCRIPTS, beats_of, launch
from relight.tests.servers import free_ports
from relight.tests.waiting import wait_until

TRAIN = SCRIPTS / "train.py"


def both(stack: ExitStack, flags: Sequence[Sequence[str]], folder: Path) -> list[subprocess.Popen[str]]:
    common = (TRAIN, folder / "state", folder / "stop")
    return [stack.enter_context(launch("--nnodes=2", *each, *common)) for each in flags]


@pytest.mark.parametrize("kind", ["c10d", "static"])
def test_who_waits_for_the_other_host_can_be_stopped(kind: str, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with ExitStack() as stack:
        (launcher,) = both(stack, flags_of(kind, port)[:1], tmp_path)
        wait_until(lambda: is_served(port), deadline_s=90)
        launcher.send_signal(signal.SIGTERM)
        _, told = launcher.communicate(timeout=30)
    assert (launcher.returncode, told) == (
        ExitCode.PREEMPTED,
        "relight: stopped by SIGTERM while no worker was running: run the same command again\n",
    )


def is_served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def flags_of(kind: str, port: int) -> list[list[str]]:
    if kind == "c10d":
        return [["--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=pair"]] * 2
    return [["--node-rank", str(rank), "--master-addr", "127.0.0.1", f"--master-port={port}"] for rank in (0, 1)]


def rank_pids(launchers: Sequence[subprocess.Popen[str]], attempt: int) -> list[int]:
    """Two launchers with one worker each: either may have become the first."""

    def training() -> list[int]:
        found = []
        for launcher in launchers:
            assert launcher.poll() is None, launcher.communicate()
            for rank in (0, 1):
                found += [beat.pid for beat in beats_of(launcher, attempt, (rank,))]
        return found if len(found) == len(launchers) else []

    return wait_until(training, deadline_s=120, what=f"two hosts to train in attempt {attempt}")


@pytest.mark.parametrize("kind", ["c10d", "static"])
def test_two_hosts_come_back_together_after_a_kill(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        launchers = both(stack, flags_of(kind, free_ports(1)[0]), tmp_path)
        pids = rank_pids(launchers, attempt=1)
        os.kill(pids[1], signal.SIGKILL)
        rank_pids(launchers, attempt=2)
        (tmp_path / "stop").touch()
        told = [launcher.communicate(timeout=90)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [ExitCode.FINISHED] * 2
    assert "was killed by SIGKILL at step" in told[1]
    # The other host hears of it from its own worker or from the rendezvous, whichever is first.
    assert "restarting (attempt 2)" in told[0] or "starting again together: " in told[0]


def test_a_bug_on_one_host_is_told_there_and_ends_all_hosts_in_the_same_way() -> None:
    verdicts = (SCRIPTS / "exits.py", "wait", "raise")
    with ExitStack() as stack:
        launchers = [
            stack.enter_context(launch("--nnodes=2", *flags, *verdicts)) for flags in flags_of("c10d", free_ports(1)[0])
        ]
        told = [launcher.communicate(timeout=120)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [ExitCode.GAVE_UP] * 2
    one, other = sorted(told, key=lambda text: "Traceback" in text)
    assert other.count("Traceback") == 1
    assert "stopped with exit code 70: the same error at the same step again" in other
    host = socket.gethostname()
    assert one.splitlines()[-2:] == [
        f"relight: starting again together: {host}: rank 1: ValueError: raise",
        f"relight: {host} has ended the run, with exit code 70",
    ]
