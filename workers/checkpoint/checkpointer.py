"""The library door: makes a training loop resumable. Everything here runs on the trainer's main thread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ...configs.heartbeat import Phase
from ...configs.protocol import ExitCode
from ...storage import runs
from ...storage.backends.open import open_backend
from ...storage.persister import ThreadPersister
from ..agreement import Agreement, Votes
from ..errors import StorageTrouble
from ..notices import say
from ..origin import origin
from ..parallel import settle_buckets
from ..pulse import Pulse
from ..signals import StopFlag
from .applying import apply, check_fits
from .cadence import Cadence
from .claiming import claim
from .collective import Circle, open_control
from .lead import from_rank_zero
from .ledger import Ledger
from .parts import gather_parts
from .progress import Progress
from .restoring import Found, find, load_tensors
from .saving import Saver
from .settings import CheckpointSettings
from .state import Stateful, capture

_ROUND_S = 0.5


class Checkpointer:
    """Saves the state of a run while it trains and brings it back, on all ranks alike.

    Every method is a collective: all ranks call it, in the same order. Needs an initialized process group when there
    is more than one rank.
    """

    def __init__(  # noqa: PLR0913 -- the parts of a run, by name
        self,
        url: str,
        *,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        scheduler: Stateful | None = None,
        scaler: Stateful | None = None,
        loader: Any = None,
        extra: Mapping[str, Stateful] | None = None,
        settings: CheckpointSettings | None = None,
        control: dist.ProcessGroup | None = None,
        stop: StopFlag | None = None,
    ) -> None:
        """`control`: a gloo group of all ranks, made here when not given; `stop`: a flag whose handlers are in place.

        Raises:
            NotCaptured: the loader's position cannot be saved.
            BadUrl: nothing serves this URL.
        """
        self._settings = settings or CheckpointSettings()
        self._own_control = None if control is not None else open_control()
        control = control or self._own_control
        self._circle = Circle(control)
        self._agreement = Agreement(control)
        self._origin = origin()
        self._pulse = Pulse(self._origin)
        self._stop = StopFlag().__enter__() if stop is None else stop  # A flag that is down is false.
        self._backend = open_backend(url)
        shared = {"scheduler": scheduler, "scaler": scaler, **(extra or {})}
        self._parts, sampler = gather_parts(model, optimizer, shared, loader)
        self.progress = Progress(sampler=sampler, on_end=self.finish)
        self._cadence = Cadence(self._settings.interval)
        self._saver: Saver | None = None
        self._staged: dict[str, Any] | None = None
        self._loss: torch.Tensor | float | None = None
        self._ledger = Ledger(self._circle.rank, self._settings.max_failed_saves)

    @property
    def exit_code(self) -> int:
        """For `SystemExit` after `step` returned True: "run the same command again"."""
        return ExitCode.PREEMPTED

    @property
    def url(self) -> str:
        return self._backend.url

    def restore(self) -> Progress:
        """Go on from the newest checkpoint proven valid, or start anew where there is none.

        Raises:
            StateMismatch: the checkpoint does not fit the model or optimizer; nothing was applied.
            StorageRefused: the URL holds another run.
            StorageTrouble: the storage did not answer.
        """
        self._pulse.beat(Phase.RESTORING)
        if isinstance(self._parts.model, DistributedDataParallel):
            settle_buckets(self._parts.model)
        run = from_rank_zero(self._circle, self._register)
        found = find(self._backend, self._circle)
        if found is not None:
            check_fits(self._parts, found)
            apply(self._parts, found, load_tensors(found, self._circle), self._circle.rank)
            self.progress.update(found.progress)
        self._saver = self._open_saver(run, found)
        if found is not None:
            self._staged = self.progress.facts()
            self._ledger.resumed(self.progress.step)
            self._say(f"resumed from step {self.progress.step} (epoch {self.progress.epoch}, {found.manifest.id.name})")
        else:
            self._say(f"starting from step 0: nothing to resume from at {self.url}")
        self._cadence.saved()
        self._beat(Phase.TRAINING)
        return self.progress

    def step(self, *, loss: torch.Tensor | float | None = None, batches: int = 1) -> bool:
        """After every optimizer step. True: told to stop, and the state is saved; leave with `exit_code`.

        `loss` is this rank's; it is looked at only when a checkpoint is saved. `batches`: how many batches of the
        loader made up the step (gradient accumulation).

        Raises:
            SavesKeepFailing: the configured number of saves in a row has failed.
            Fenced: a newer launcher goes on with this run.
        """
        self.progress.advance(batches)
        self._loss = loss.detach() if isinstance(loss, torch.Tensor) else loss
        agreed = self._hear(self._agreement.read())
        if agreed.stop:
            trouble = self._end()
            if trouble:
                self._say(f"the state could not be saved; the next start goes on from an older checkpoint: {trouble}")
            else:
                self._say(f"told to stop: saved step {self.progress.step}. Run the same command again to go on")
            return True
        if self._cadence.note(self.progress.step, agreed=agreed.save_due) and not agreed.busy:
            self._save()
        self._agreement.start(self._votes())
        self._beat(Phase.TRAINING)
        return False

    def finish(self) -> None:
        """At the end of training: the final state is committed when this returns. Called once more, it does nothing.

        Raises:
            StorageTrouble: the final checkpoint could not be saved.
        """
        if self._saver is None:
            return
        self._hear(self._agreement.read())
        trouble = self._end()
        if trouble:
            message = f"the final checkpoint of step {self.progress.step} could not be saved: {trouble}"
            raise StorageTrouble(message)
        self._beat(Phase.FINISHED)

    def evaluating(self) -> None:
        """Tell the launcher that the next step will take longer, because the run is being evaluated."""
        self._beat(Phase.EVALUATING)

    def _register(self) -> str:
        return runs.register(self._backend, self._settings.identity).run

    def _open_saver(self, run: str, found: Found | None) -> Saver:
        resumed_from = found.manifest.id if found is not None else None
        lineage = claim(self._backend, self._circle, self._origin, run=run, resumed_from=resumed_from)
        return Saver(ThreadPersister(self._backend.url), self._circle, lineage, self._settings.saving)

    def _save(self) -> None:
        saver = self._require_saver()
        self._ledger.begin(self.progress.step)
        self._beat(Phase.SAVING)
        if self._loss is not None:
            self.progress.loss = self._circle.mean(float(self._loss))
        self._staged = self.progress.facts()
        saver.save(capture(self._parts, self._staged, self._circle.rank), self.progress)
        self._cadence.saved()

    def _end(self) -> str:
        """Save what is not saved yet, wait for all ranks, and close. Returns what went wrong, on every rank alike."""
        saver = self._require_saver()
        agreed = self._settle(saver)
        saved = self._staged == self.progress.facts() and agreed.committed_step == self.progress.step
        if not saved and not agreed.busy:
            self._save()
            agreed = self._settle(saver)
        self._saver = None
        trouble = self._circle.tell((self._ledger.last_failure or "it took too long").encode()).decode()
        if self._own_control is not None:
            # Left to the interpreter's end, its threads can abort a process that has done all its work.
            dist.destroy_process_group(self._own_control)
        if agreed.committed_step != self.progress.step:
            return trouble
        saver.close()
        return ""

    def _settle(self, saver: Saver) -> Votes:
        """Let the save under way come to its end, and hear how it went on all ranks: as soon as one of them knows."""
        for _ in range(math.ceil(self._settings.deadline_s / _ROUND_S)):  # Counted, not timed: all ranks do as many.
            saver.wait(_ROUND_S)
            agreed = self._hear(self._agreement.agree(self._votes()))
            if not agreed.busy:
                break
        return agreed

    def _votes(self) -> Votes:
        """What this rank asks for and knows."""
        saver = self._require_saver()
        busy = saver.busy  # Asked first: a save that ends in between is heard of at the next step, not lost.
        self._ledger.enter(saver.outcome())
        return Votes(
            stop=bool(self._stop),
            save_due=self._circle.rank == 0 and self._cadence.asks,
            busy=busy,
            committed_step=self._ledger.committed_step,
            failed_step=self._ledger.failed_step,
        )

    def _hear(self, agreed: Votes | None) -> Votes:
        if agreed is None:
            return Votes()
        self._ledger.hear(agreed)
        self._require_saver().heard(agreed.failed_step)
        return agreed

    def _beat(self, phase: Phase) -> None:
        self._pulse.beat(phase, step=self.progress.step, committed_step=self._ledger.committed_step)

    def _say(self, line: str) -> None:
        if self._circle.rank == 0:
            say(line)

    def _require_saver(self) -> Saver:
        if self._saver is None:
            message = "call restore() before the first step, and no step after finish() or after step() returned True"
            raise RuntimeError(message)
        return self._saver
