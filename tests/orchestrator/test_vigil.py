"""When beats stop: who is looked at, what is said, and when nothing is said at all."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from relight.configs.heartbeat import Beat, Heartbeat, Phase
from relight.configs.protocol import ExitCode
from relight.configs.schema import HangConfig
from relight.orchestrator.commandline import split
from relight.orchestrator.errors import UsageError
from relight.orchestrator.judging.patience import Patience
from relight.orchestrator.launcher import ENV_HANG_TIMEOUT, resolve
from relight.orchestrator.stacks import state_of
from relight.orchestrator.vigil import Vigil
from relight.tests.orchestrator.launching import SCRIPTS, Launched, meanwhile, spec_of
from relight.tests.waiting import wait_until

TRAIN = SCRIPTS / "train.py"
PTRACE_SEIZE: Final = 0x4206


@dataclass
class Sleepers:
    """Two real processes in the place of two ranks, silent for a minute."""

    processes: list[subprocess.Popen[bytes]]
    said: list[str] = field(default_factory=list)
    recorded: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def pids(self) -> dict[int, int]:
        return {rank: process.pid for rank, process in enumerate(self.processes)}

    def signal(self, rank: int, number: int) -> None:
        self.processes[rank].send_signal(number)

    def beats(self, *phases: Phase, step: int = 7) -> dict[int, Beat]:
        at_ns = time.monotonic_ns() - 60 * 10**9
        each = phases or (Phase.TRAINING, Phase.TRAINING)
        return {rank: Beat(each[rank], step, -1, -1, pid, at_ns) for rank, pid in self.pids().items()}

    def vigil(self, folder: Path, **options: Any) -> Vigil:
        patience = Patience(HangConfig(timeout=5))
        vigil = Vigil(patience, self, folder, self._record, self.said.append, **options)
        patience.restart(0)
        return vigil

    def _record(self, event: str, **facts: Any) -> None:
        self.recorded.append((event, facts))


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    sleepers = Sleepers([subprocess.Popen(["sleep", "1000"]) for _ in range(2)])
    yield sleepers
    for process in sleepers.processes:
        process.kill()
        process.wait()


def test_who_does_not_run_is_found_said_and_recorded(sleepers: Sleepers, tmp_path: Path) -> None:
    sleepers.signal(1, signal.SIGSTOP)
    wait_until(lambda: state_of(sleepers.pids()[1]) == "T")
    hang = sleepers.vigil(tmp_path, journal="runs/mine/journal/1.jsonl").look(sleepers.beats())
    assert hang is not None
    assert (hang.rank, hang.step) == (1, 7)
    assert [event for event, _ in sleepers.recorded] == ["hang", "stacks", "stacks"]
    assert sleepers.recorded[0][1]["why"] == "its process is stopped (by a SIGSTOP; state T)"
    assert len(sleepers.said) == 1
    assert re.match(r"rank 1 hangs after step 7: silent for 6\d\.\d s, 5\.0 s are the limit\n", sleepers.said[0])
    assert sleepers.said[0].endswith("  stacks   of all ranks are in runs/mine/journal/1.jsonl")


def test_all_stacks_are_kept_beside_the_logs(sleepers: Sleepers, tmp_path: Path) -> None:
    kept = tmp_path / "logs" / "attempt_1"
    sleepers.vigil(tmp_path, kept=kept).look(sleepers.beats())
    assert sorted(path.name for path in kept.iterdir()) == ["stacks-00000.txt", "stacks-00001.txt"]
    assert (kept / "stacks-00001.txt").read_text().startswith(f"process {sleepers.pids()[1]}: S (sleeping)")
    assert sleepers.said[0].endswith(f"  stacks   of all ranks are in {kept}")


def test_a_folder_that_cannot_be_written_does_not_keep_a_hang_from_being_told(
    sleepers: Sleepers, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert sleepers.vigil(tmp_path, kept=tmp_path / "file" / "logs").look(sleepers.beats())
    refused, told = sleepers.said
    assert refused.startswith(f"the stacks are not written to {tmp_path}/file/logs: ")
    assert told.endswith("  stacks   are kept with --log-dir")


def test_who_has_finished_or_ended_is_not_looked_at(sleepers: Sleepers, tmp_path: Path) -> None:
    vigil = sleepers.vigil(tmp_path)
    assert vigil.look(sleepers.beats(Phase.FINISHED, Phase.FINISHED)) is None
    beats = sleepers.beats()
    process = sleepers.processes.pop()
    try:
        hang = vigil.look(beats)
        assert hang is not None
        assert sorted(hang.stacks) == [0]
    finally:
        process.kill()
        process.wait()


def test_after_a_sleep_of_the_launcher_nobody_is_judged_by_the_time_before(sleepers: Sleepers, tmp_path: Path) -> None:
    vigil = sleepers.vigil(tmp_path)
    vigil._looked_ns -= 3 * 10**9
    assert vigil.look(sleepers.beats()) is None
    assert vigil.due_in_s(sleepers.beats()) == pytest.approx(0.25)
    assert sleepers.said == []


def test_who_beats_while_it_is_looked_at_does_not_hang(sleepers: Sleepers, tmp_path: Path) -> None:
    beats = sleepers.beats()
    for rank in beats:
        with Heartbeat(tmp_path, rank) as heartbeat:
            heartbeat.beat(Phase.TRAINING, step=8, committed_step=-1)
    assert sleepers.vigil(tmp_path).look(beats) is None
    assert sleepers.said == []


def test_whoever_is_being_debugged_may_be_silent(sleepers: Sleepers, tmp_path: Path) -> None:
    assert ctypes.CDLL(None).ptrace(PTRACE_SEIZE, sleepers.pids()[1], None, None) == 0
    vigil = sleepers.vigil(tmp_path)
    assert vigil.look(sleepers.beats()) is None
    vigil.patience.restart(0)
    assert vigil.look(sleepers.beats()) is None
    assert sleepers.said == ["rank 1 is silent and being debugged: hangs are not looked for meanwhile"]
    assert sleepers.recorded == []


def test_a_lone_launcher_of_programs_that_never_beat_judges_nobody(launched: Launched) -> None:
    spec = replace(spec_of("--no-python", "sleep", "1.5"), hang=HangConfig(floor_s=0.1, start_s=0.1))
    assert launched.run(spec=spec) == ExitCode.FINISHED
    assert launched.said == []


@pytest.mark.parametrize(
    ("text", "timeout"), [("never", "never"), ("auto", "auto"), ("30", 30.0), (None, "auto"), ("1.5", 1.5)]
)
def test_a_script_is_told_by_the_environment(text: str | None, timeout: str | float) -> None:
    environment = {} if text is None else {ENV_HANG_TIMEOUT: text}
    assert resolve(split([str(TRAIN)], {}), None, environment).hang == HangConfig.model_validate({"timeout": timeout})


@pytest.mark.parametrize("text", ["soon", "-1", "0", "inf", "nan", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve(split([str(TRAIN)], {}), None, {ENV_HANG_TIMEOUT: text})
    assert str(refused.value) == f"RELIGHT_HANG_TIMEOUT={text}: auto, never, or seconds greater than 0"


def test_a_script_whose_rank_is_stopped_comes_back(launched: Launched, tmp_path: Path) -> None:
    def stop_one() -> None:
        wait_until(lambda: all(beat.step > 50 for beat in launched.training(1)) and launched.training(1), deadline_s=60)
        os.kill(launched.training(1)[1].pid, signal.SIGSTOP)
        wait_until(lambda: launched.training(2), deadline_s=60, what="a new attempt")
        (tmp_path / "stop").touch()

    logs = tmp_path / "logs"
    spec = spec_of("--nproc-per-node=2", f"--log-dir={logs}", TRAIN, tmp_path / "state", tmp_path / "stop")
    with meanwhile(stop_one):
        assert launched.run(spec=replace(spec, hang=HangConfig(floor_s=0.5))) == ExitCode.FINISHED
    told, again = launched.said
    assert told.startswith("rank 1 hangs after step "), told
    assert f"  rank 0   {TRAIN}" in told or "distributed_c10d.py" in told
    assert again.endswith("restarting (attempt 2)")
    assert f'"{TRAIN}", line ' in (logs / "attempt_1" / "stacks-00000.txt").read_text()
    assert launched.journal is not None
    lines = [json.loads(line) for line in launched.journal.read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] in {"hang", "stacks", "failed"}] == [
        "hang",
        "stacks",
        "stacks",
        "failed",
    ]
    (failed,) = (line for line in lines if line["event"] == "failed")
    assert (failed["kind"], failed["rank"], failed["what"]) == (
        "HANG",
        1,
        "it hangs: its process is stopped (by a SIGSTOP; state T)",
    )
