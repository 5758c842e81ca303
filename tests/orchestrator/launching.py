"""Runs the launcher for tests: inside the test with a zygote that all tests share, or as users run it.

from relight.tests.orchestrator.launching import Launched, launch
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from relight.configs.heartbeat import Beat, Phase, read_beat
from relight.orchestrator.commandline import split
from relight.orchestrator.forking.group import Group
from relight.orchestrator.hosts.meeting import Rendezvous
from relight.orchestrator.hosts.rendezvous import for_meeting
from relight.orchestrator.journal import Journal
from relight.orchestrator.launcher import LaunchSpec, resolve
from relight.orchestrator.notices import Notices
from relight.orchestrator.supervisor import Supervisor
from relight.tests.waiting import wait_until

SCRIPTS: Final = Path(__file__).parent / "scripts"


def spec_of(*arguments: str | Path) -> LaunchSpec:
    return resolve(split([str(each) for each in arguments], {}), None, {})


@dataclass
class Launched:
    """A launcher inside the test. `said` is what it told the user, in its order."""

    group: Group
    scratch: Path
    said: list[str] = field(default_factory=list)
    journal: Path | None = None

    def run(self, *arguments: str | Path, spec: LaunchSpec | None = None, rendezvous: Rendezvous | None = None) -> int:
        """Blocks like the real one; what is to happen meanwhile is `meanwhile`'s."""
        spec = spec or spec_of(*arguments)
        rendezvous = rendezvous or for_meeting(spec.meeting, "incarnation", spec.processes, spec.address, spec.port)
        journal = Journal("incarnation", local=self.journal)
        notices = Notices()
        notices.listen(spec.stop_signals)
        try:
            return Supervisor(spec, self.group, rendezvous, notices, journal, self.scratch, self.said.append).run()
        finally:
            journal.close()
            notices.close()

    def beat(self, attempt: int, rank: int) -> Beat | None:
        """The rank's last beat if it trains, in this attempt."""
        beat = read_beat(self.scratch / f"attempt-{attempt}", rank)
        return beat if beat is not None and beat.phase is Phase.TRAINING else None

    def training(self, attempt: int, ranks: Sequence[int] = (0, 1)) -> list[Beat]:
        """Every rank's beat, once all train."""
        beats = [beat for rank in ranks if (beat := self.beat(attempt, rank)) is not None]
        return beats if len(beats) == len(ranks) else []


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something beside the body. Its failure is the test's."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as failure:  # noqa: BLE001  # Raised again below, in the test's own thread.
            failures.append(failure)
            os.kill(os.getpid(), signal.SIGTERM)  # So that the launcher ends and the failure is seen.

    actor = threading.Thread(target=guarded)
    actor.start()
    try:
        yield
    finally:
        actor.join()
        if failures:
            raise failures[0]


@contextmanager
def launch(*arguments: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`relight run` as a process of its own; killed with all that it started if the test leaves it running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "relight", "run", *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def scratch_of(process: subprocess.Popen[str]) -> Path | None:
    """The private directory of a launcher that runs as a process."""
    return next(Path("/dev/shm").glob(f"relight-launcher-{process.pid}-*"), None)


def beats_of(process: subprocess.Popen[str], attempt: int, ranks: Sequence[int]) -> list[Beat]:
    scratch = scratch_of(process)
    if scratch is None:
        return []
    beats = [read_beat(scratch / f"attempt-{attempt}", rank) for rank in ranks]
    return [beat for beat in beats if beat is not None and beat.phase is Phase.TRAINING and beat.step > 0]


def await_training(process: subprocess.Popen[str], ranks: Sequence[int] = (0, 1), attempt: int = 1) -> list[Beat]:
    def training() -> list[Beat]:
        assert process.poll() is None, process.communicate()
        beats = beats_of(process, attempt, ranks)
        return beats if len(beats) == len(ranks) else []

    return wait_until(training, deadline_s=90, what=f"ranks {ranks} to train in attempt {attempt}")
