"""The loop over attempts: meet the other hosts, start the workers, watch them, settle what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..configs.heartbeat import Beat
from ..configs.protocol import ENV_FAILURES, ENV_MEMORY_DIR, ExitCode
from .environment import Place, worker_environment
from .errors import LaunchError, RunEnded
from .forking.group import Group
from .forking.spawning import Spawn
from .hearing import Hearing
from .hosts.meeting import Joined, Refused, Rendezvous, Waiting
from .journal import Journal
from .judging.patience import Patience
from .notices import Notices, wait_for_any
from .report import say
from .settling import Settling
from .vigil import Vigil
from .watch import Outcome, Watch

if TYPE_CHECKING:
    from .launcher import LaunchSpec

_SAY_AFTER_S: Final = 10.0
"""Hosts that have not met after so long are waited for in vain, or a person is about to wonder."""


@dataclass(slots=True)
class Supervisor:
    """One launcher's life. `memory`: where workers leave their state in memory for the next ones; None: nowhere.
    `observe` is shown the newest beats of the workers, by global rank, again and again while they run; `stores` is told
    where the run lives, by a script's workers.
    """

    spec: LaunchSpec
    group: Group
    rendezvous: Rendezvous
    notices: Notices
    journal: Journal
    scratch: Path
    say: Callable[[str], None] = say
    memory: Path | None = None
    observe: Callable[[Mapping[int, Beat]], None] = lambda _: None
    stores: Callable[[str], None] = lambda _: None
    _attempt: int = field(init=False, default=0)
    _began: float = field(init=False, default_factory=time.monotonic)
    _settling: Settling = field(init=False)
    _patience: Patience = field(init=False)

    def __post_init__(self) -> None:
        self._patience = Patience(self.spec.hang)
        self._settling = Settling(self.spec, self.rendezvous, self.notices, self.journal, self.say)

    def run(self) -> int:
        code = None
        try:
            while code is None:
                place = self._join()
                outcome = self._attempt_at(place)
                code = self._settling.settle(outcome, self._attempt)
        except RunEnded as error:
            self.say(str(error))
            return error.exit_code
        except LaunchError as error:
            self.journal.record("gave up", reason=str(error))
            raise
        finally:
            self.rendezvous.close(ended_with=None if self._others_go_on(code) else code)
        return code

    def _others_go_on(self, code: int | None) -> bool:
        """A host that is preempted, or in trouble of its own, leaves the others their rendezvous."""
        return code in (None, ExitCode.PREEMPTED, ExitCode.INTERRUPTED) or self._settling.excluded

    def _join(self) -> Place:
        self._attempt += 1
        self.rendezvous.join(self._attempt)
        patience_s: float | None = _SAY_AFTER_S
        while True:
            began = time.monotonic()
            wait_for_any(self.notices, self.rendezvous, timeout_s=patience_s)
            self.notices.stop_if_asked()
            for news in self.rendezvous.news():
                if isinstance(news, Joined):
                    # Never backwards: this host's directories and tokens are named by it.
                    self._attempt = max(self._attempt, news.place.attempt)
                    place = asdict(news.place)
                    self.journal.record("joined", leader=place.pop("incarnation"), **place)
                    return news.place
                if isinstance(news, Refused):
                    raise news.error
                if isinstance(news, Waiting):
                    self.say(news.reason)
            if patience_s is not None and time.monotonic() - began >= patience_s:
                patience_s = None
                self.say(
                    f"waiting for other hosts ({self.spec.meeting.wanted} are needed) at {self.spec.meeting.where}"
                )

    def _attempt_at(self, place: Place) -> Outcome:
        run_dir = self.scratch / f"attempt-{self._attempt}"
        run_dir.mkdir(exist_ok=True)
        self.group.start([self._spawn(place, local_rank, run_dir) for local_rank in range(place.local_world_size)])
        deadline_s = self.spec.preemption_deadline_s
        self._patience.begin(place.world_size)
        vigil = Vigil(
            self._patience, self.group, run_dir, self._record_of_attempt, self.say,
            kept=self.spec.streams.folder(self._attempt),
            journal=self.journal.place,
            several=place.group_world_size > 1,
        )  # fmt: skip
        hearing = Hearing(run_dir, self._record_of_attempt, self.stores)

        def observe(beats: Mapping[int, Beat]) -> None:
            self.observe(beats)
            hearing.listen()

        outcome = Watch(self.group, self.notices, self.rendezvous, run_dir, deadline_s, self.say, observe, vigil).run()
        hearing.take()
        for each in outcome.evidence:
            self.journal.record(
                "exited", attempt=self._attempt, rank=each.rank, pid=each.pid, returncode=each.returncode,
                killed_by_us=each.killed_by_us, step=each.beat.step if each.beat is not None else None,
            )  # fmt: skip
        return outcome

    def _record_of_attempt(self, event: str, **facts: Any) -> None:
        self.journal.record(event, attempt=self._attempt, **facts)

    def _spawn(self, place: Place, local_rank: int, run_dir: Path) -> Spawn:
        environment = worker_environment(place, local_rank, self.spec.job, run_dir, self.group.environment)
        stdout, stderr = self.spec.streams.files(local_rank, self._attempt)
        return Spawn(place.first_rank + local_rank, self.spec.entry, environment | self._known(), stdout, stderr)

    def _known(self) -> dict[str, str]:
        """What the launcher's life so far means for a worker: where it may find its state, how often it may fail."""
        variables = {ENV_FAILURES: f"{self._settling.failures}/{time.monotonic() - self._began:.0f}"}
        if self.memory is not None:
            variables[ENV_MEMORY_DIR] = str(self.memory)
        return variables
