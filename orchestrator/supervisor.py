"""`relight run`: launch, watch, decide, restart, until the training has finished or cannot."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.events import read_events
from ..configs.protocol import ENV_FAILURES, ENV_MEMORY_DIR, ExitCode
from ..storage.errors import StorageError
from . import commandline, preflight, report
from .environment import Place, omp_threads, worker_environment
from .errors import LaunchError, Stopped
from .failures import Failure, FailureClass, classify
from .group import Group
from .journal import Journal
from .meeting import AllFinished, Broken, Joined, Refused, Rendezvous
from .notices import Notices, wait_for_any
from .policy import History, Stop, decide
from .processors import likely_processes
from .scratch import memory_directory, scratch_directory
from .spawning import Spawn
from .watch import Outcome, Watch

if TYPE_CHECKING:
    from .launcher import LaunchSpec


def run(argv: Sequence[str]) -> int:
    """`relight run` with these arguments; returns the exit code. Everything for the user goes to stderr."""
    try:
        return _run(argv)
    except commandline.HelpWanted:
        sys.stdout.write(commandline.USAGE + "\n")
        return ExitCode.FINISHED
    except LaunchError as error:
        say(str(error))
        return error.exit_code


def say(text: str) -> None:
    sys.stderr.write(f"relight: {text}\n")
    sys.stderr.flush()


def _run(argv: Sequence[str]) -> int:
    command = commandline.split(argv, os.environ)
    prepared = preflight.check(command)
    config, store = prepared if prepared is not None else (None, None)
    with ExitStack() as stack:
        notices = stack.enter_context(closing(Notices()))
        scratch = stack.enter_context(scratch_directory())
        inherited = dict(os.environ)
        threads = omp_threads(likely_processes(command, config, inherited), inherited)
        # The zygote imports torch while this process does the same.
        group = stack.enter_context(closing(Group(inherited | threads, _note_missing)))

        from . import launcher
        from .rendezvous import for_meeting

        spec = launcher.resolve(command, config, inherited)
        notices.listen(spec.stop_signals)
        if omp_threads(spec.processes, inherited) != threads:  # OpenMP reads it once, when it is loaded.
            group.close()
            group.environment = inherited | omp_threads(spec.processes, inherited)
        incarnation = uuid.uuid4().hex[:12]
        local = spec.streams.log_dir / "journal.jsonl" if spec.streams.log_dir is not None else None
        journal = Journal(incarnation, store=store, local=local, warn=say, refusals=(StorageError, OSError))
        stack.enter_context(closing(journal))
        rendezvous = for_meeting(spec.meeting, incarnation, spec.processes, spec.address, spec.port)
        # Not the arguments of a script: there may be secrets among them.
        overrides = list(command.rest) if config is not None else []
        journal.record("launched", target=command.target, overrides=overrides, processes=spec.processes)
        code = Supervisor(spec, group, rendezvous, notices, journal, scratch, memory=memory_directory(scratch)).run()
        journal.record("ended", exit_code=int(code))
        return code


def _note_missing(notes: Sequence[str]) -> None:
    for note in notes:
        say(f"workers will import it themselves: {note}")


@dataclass(slots=True)
class Supervisor:
    """The loop over attempts. Decisions are `policy.decide`'s; this carries them out."""

    spec: LaunchSpec
    group: Group
    rendezvous: Rendezvous
    notices: Notices
    journal: Journal
    scratch: Path
    say: Callable[[str], None] = say
    memory: Path | None = None
    """Where workers leave their state in memory for the next ones; None where there is no memory filesystem."""
    _attempt: int = field(init=False, default=0)
    _began: float = field(init=False, default_factory=time.monotonic)
    _history: History = field(init=False, default_factory=History)
    _storage_errors: frozenset[str] = field(init=False, default_factory=preflight.storage_errors)

    def run(self) -> int:
        code = None
        try:
            while code is None:
                place = self._join()
                outcome = self._attempt_at(place)
                code = self._settle(outcome)
        except LaunchError as error:
            self.journal.record("gave up", reason=str(error))
            raise
        finally:
            # A host that is preempted leaves the others their rendezvous.
            self.rendezvous.close(for_all=code not in (None, ExitCode.PREEMPTED, ExitCode.INTERRUPTED))
        return code

    def _join(self) -> Place:
        self._attempt += 1
        self.rendezvous.join(self._attempt)
        while True:
            wait_for_any(self.notices, self.rendezvous)
            self._stop_if_asked()
            for news in self.rendezvous.news():
                if isinstance(news, Joined):
                    # Never backwards: this host's directories and tokens are named by it.
                    self._attempt = max(self._attempt, news.place.attempt)
                    self.journal.record("joined", **asdict(news.place))
                    return news.place
                if isinstance(news, Refused):
                    raise news.error

    def _attempt_at(self, place: Place) -> Outcome:
        run_dir = self.scratch / f"attempt-{self._attempt}"
        run_dir.mkdir(exist_ok=True)
        self.group.start([self._spawn(place, local_rank, run_dir) for local_rank in range(place.local_world_size)])
        deadline_s = self.spec.preemption_deadline_s
        outcome = Watch(self.group, self.notices, self.rendezvous, run_dir, deadline_s, self.say).run()
        for event in read_events(run_dir):
            self.journal.record(**event, attempt=self._attempt)
        for each in outcome.evidence:
            self.journal.record(
                "exited", attempt=self._attempt, rank=each.rank, pid=each.pid, returncode=each.returncode,
                killed_by_us=each.killed_by_us, step=each.beat.step if each.beat is not None else None,
            )  # fmt: skip
        return outcome

    def _spawn(self, place: Place, local_rank: int, run_dir: Path) -> Spawn:
        environment = worker_environment(place, local_rank, self.spec.job, run_dir, self.group.environment)
        stdout, stderr = self.spec.streams.files(local_rank, self._attempt)
        return Spawn(place.first_rank + local_rank, self.spec.entry, environment | self._known(), stdout, stderr)

    def _known(self) -> dict[str, str]:
        """What the launcher's life so far means for a worker: where it may find its state, how often it may fail."""
        variables = {ENV_FAILURES: f"{self._history.failures}/{time.monotonic() - self._began:.0f}"}
        if self.memory is not None:
            variables[ENV_MEMORY_DIR] = str(self.memory)
        return variables

    def _settle(self, outcome: Outcome) -> int | None:
        """The exit code, or None for another attempt."""
        if outcome.overdue:
            self.say(f"killed after {self.spec.preemption_deadline_s:g} s: rank {', '.join(map(str, outcome.overdue))}")
        if outcome.interrupted:
            return ExitCode.INTERRUPTED
        failure = classify(outcome.evidence, self._storage_errors)
        if outcome.stopped_by is not None:
            return self._settle_stop(outcome.stopped_by, failure)
        if outcome.broken is not None:
            self.say(f"starting again together: {outcome.broken}")
            self.journal.record("regrouped", attempt=self._attempt, reason=outcome.broken)
            return None
        if failure is None:
            return self._settle_finish()
        return self._settle_failure(failure)

    def _settle_stop(self, number: signal.Signals, failure: Failure | None) -> int:
        self.journal.record("stopped", attempt=self._attempt, signal=number.name)
        if failure is None and self.spec.entry.kind == "call":
            return ExitCode.FINISHED  # Our own workers say 0 only when the training is done.
        if failure is not None and failure.kind in (FailureClass.BAD_CONFIG, FailureClass.GAVE_UP):
            return self._settle_failure(failure) or ExitCode.PREEMPTED
        self.say(f"stopped by {number.name} with exit code {ExitCode.PREEMPTED.value}: run the same command again")
        return ExitCode.PREEMPTED

    def _settle_finish(self) -> int | None:
        """Our workers have finished. Another host's may have failed meanwhile, and then all start again."""
        self.rendezvous.finish()
        while True:
            wait_for_any(self.notices, self.rendezvous)
            if self.notices.take():
                return ExitCode.FINISHED
            for news in self.rendezvous.news():
                if isinstance(news, AllFinished):
                    return ExitCode.FINISHED
                if isinstance(news, Broken):
                    self.say(f"starting again together: {news.reason}")
                    return None

    def _settle_failure(self, failure: Failure) -> int | None:
        decision = decide(failure, self._history, self.spec.settings)
        self._history = self._history.after(failure)
        facts = asdict(failure) | {"kind": failure.kind.name, "details": failure.details[-2000:]}
        self.journal.record("failed", attempt=self._attempt, **facts)
        self.journal.record("decided", attempt=self._attempt, decision=type(decision).__name__, **asdict(decision))
        if isinstance(decision, Stop):
            self.say(report.stopping(failure, decision, socket.gethostname(), self._attempt))
            return decision.exit_code
        self.say(report.restarting(failure, decision, self._attempt + 1))
        self._back_off(decision.delay_s)
        return None

    def _back_off(self, delay_s: float) -> None:
        ends_at = time.monotonic() + delay_s
        while (left := ends_at - time.monotonic()) > 0:
            wait_for_any(self.notices, timeout_s=left)
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        for number in self.notices.take():
            raise Stopped(f"stopped by {number.name} while no worker was running: run the same command again")
