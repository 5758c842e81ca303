"""The loop over attempts: meet the other hosts, start the workers, watch them, settle what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.events import read_events
from ..configs.protocol import ENV_FAILURES, ENV_MEMORY_DIR, ExitCode
from .environment import Place, worker_environment
from .errors import LaunchError
from .forking.group import Group
from .forking.spawning import Spawn
from .hosts.meeting import Joined, Refused, Rendezvous
from .journal import Journal
from .notices import Notices, wait_for_any
from .report import say
from .settling import Settling
from .watch import Outcome, Watch

if TYPE_CHECKING:
    from .launcher import LaunchSpec


@dataclass(slots=True)
class Supervisor:
    """One launcher's life. `memory`: where workers leave their state in memory for the next ones; None: nowhere."""

    spec: LaunchSpec
    group: Group
    rendezvous: Rendezvous
    notices: Notices
    journal: Journal
    scratch: Path
    say: Callable[[str], None] = say
    memory: Path | None = None
    _attempt: int = field(init=False, default=0)
    _began: float = field(init=False, default_factory=time.monotonic)
    _settling: Settling = field(init=False)

    def __post_init__(self) -> None:
        self._settling = Settling(self.spec, self.rendezvous, self.notices, self.journal, self.say)

    def run(self) -> int:
        code = None
        try:
            while code is None:
                place = self._join()
                outcome = self._attempt_at(place)
                code = self._settling.settle(outcome, self._attempt)
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
            self.notices.stop_if_asked()
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
        variables = {ENV_FAILURES: f"{self._settling.failures}/{time.monotonic() - self._began:.0f}"}
        if self.memory is not None:
            variables[ENV_MEMORY_DIR] = str(self.memory)
        return variables
