"""The launcher as users run it: its own process, real signals, and nothing that stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from relight.configs.protocol import ExitCode
from relight.orchestrator.scratch import scratch_directory
from relight.tests.orchestrator.launching import (
    SCRIPTS,
    Launched,
    await_training,
    launch,
    meanwhile,
    scratch_of,
)
from relight.tests.processes import alive, descendants
from relight.tests.waiting import wait_until

TRAIN = SCRIPTS / "train.py"
EXITS = SCRIPTS / "exits.py"


def test_a_script_prints_where_the_launcher_prints(tmp_path: Path) -> None:
    with launch(SCRIPTS / "facts.py", tmp_path / "out") as launcher:
        out, errors = launcher.communicate(timeout=90)
    assert (launcher.returncode, out, errors) == (ExitCode.FINISHED, "out of rank 0\n", "err of rank 0\n")


def test_sigterm_reaches_trainers_alone_so_that_they_can_save_with_their_loaders(tmp_path: Path) -> None:
    train = (TRAIN, tmp_path / "state", tmp_path / "stop", "--loader", "2")
    with launch("--nproc-per-node=2", *train) as launcher:
        await_training(launcher)
        scratch = scratch_of(launcher)
        family = descendants(launcher.pid)
        assert len(family) >= 1 + 2 + 4
        launcher.send_signal(signal.SIGTERM)
        out, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == ExitCode.PREEMPTED
    said = [line for line in out.splitlines() if not line.startswith("[Gloo]")]  # Older torch greets.
    assert sorted(said) == ["rank 0 saved with 2 loaders", "rank 1 saved with 2 loaders"]
    assert errors.splitlines() == [
        "relight: SIGTERM: the workers have 60 s to save and end",
        "relight: stopped by SIGTERM with exit code 75: run the same command again",
    ]
    assert scratch is not None
    assert not scratch.exists()
    assert not [pid for pid in family if alive(pid)]


def test_after_a_sigkill_of_the_launcher_nothing_of_it_lives(tmp_path: Path) -> None:
    train = (TRAIN, tmp_path / "state", tmp_path / "stop", "--loader", "2", "--program")
    with launch("--nproc-per-node=2", *train) as launcher:
        await_training(launcher)
        scratch = scratch_of(launcher)
        family = descendants(launcher.pid)
        assert len(family) >= 1 + 2 + 4 + 2
        launcher.kill()
        wait_until(lambda: not [pid for pid in family if alive(pid)], deadline_s=10, what="the whole family to be gone")
    # What it had in memory is removed by the next one of the same user, whatever that one runs.
    assert scratch is not None
    assert scratch.exists()
    with scratch_directory():
        assert not scratch.exists()


def test_what_a_trainer_forked_dies_with_it_even_if_nobody_can_tell_it(launched: Launched, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def kill_trainer_while_the_zygote_is_stopped() -> None:
        sleeper, echo = map(int, wait_until(lambda: out.exists() and out.read_text(), deadline_s=60).split())
        trainer = int(Path(f"/proc/{sleeper}/stat").read_text().rpartition(")")[2].split()[1])
        zygote = launched.group._zygote.pid
        os.kill(zygote, signal.SIGSTOP)
        try:
            os.kill(trainer, signal.SIGKILL)
            wait_until(lambda: not alive(sleeper), what="what its main thread forked to be gone")
        finally:
            os.kill(zygote, signal.SIGCONT)
        wait_until(lambda: not alive(echo), what="all its process group to be gone")

    with meanwhile(kill_trainer_while_the_zygote_is_stopped):
        assert launched.run("--max-restarts=0", SCRIPTS / "forks.py", out) == ExitCode.GAVE_UP
    assert "killed by SIGKILL" in launched.said[0]


def test_a_second_ctrl_c_ends_at_once(launched: Launched, tmp_path: Path) -> None:
    def press_twice() -> None:
        beats = wait_until(lambda: launched.training(1), deadline_s=60)
        os.kill(beats[0].pid, signal.SIGSTOP)  # One that will not save.
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: launched.said)
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(press_twice):
        code = launched.run("--nproc-per-node=2", TRAIN, tmp_path / "state", tmp_path / "stop")
    assert code == ExitCode.INTERRUPTED
    assert launched.said == [
        "SIGINT: the workers have 60 s to save and end; press Ctrl-C again to end them at once",
    ]


def test_the_first_ctrl_c_saves(launched: Launched, tmp_path: Path) -> None:
    def press() -> None:
        wait_until(lambda: launched.training(1), deadline_s=60)
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(press):
        code = launched.run("--nproc-per-node=2", TRAIN, tmp_path / "state", tmp_path / "stop")
    assert code == ExitCode.PREEMPTED


def test_who_does_not_end_in_time_is_killed(launched: Launched, tmp_path: Path) -> None:
    def notice() -> None:
        beats = wait_until(lambda: launched.training(1), deadline_s=60)
        for beat in beats:
            os.kill(beat.pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGUSR1)

    with meanwhile(notice):
        flags = ("--nproc-per-node=2", "--shutdown-timeout=1")
        code = launched.run(*flags, TRAIN, tmp_path / "state", tmp_path / "stop")
    assert code == ExitCode.PREEMPTED
    assert launched.said == [
        "SIGUSR1: the workers have 1 s to save and end",
        "killed after 1 s: rank 0, 1",
        "stopped by SIGUSR1 with exit code 75: run the same command again",
    ]


def test_a_signal_between_two_attempts_is_heard_at_once(tmp_path: Path) -> None:
    with launch(EXITS, "raise-new") as launcher:
        assert launcher.stderr is not None
        for line in launcher.stderr:
            if "(attempt 4)" in line:  # The third failure: it waits now, for one second or two.
                launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(timeout=60) == ExitCode.PREEMPTED
    assert line == "relight: stopped by SIGTERM while no worker was running: run the same command again\n"


def test_what_a_launcher_was_told_to_ignore_it_ignores() -> None:
    program = (
        "import os, signal\n"
        "from relight.orchestrator.notices import Notices\n"
        "notices = Notices()\n"
        "notices.listen([signal.SIGHUP])\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "print(notices.take())\n"
    )
    command = ["nohup", sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "[<Signals.SIGUSR1: 10>]\n"
