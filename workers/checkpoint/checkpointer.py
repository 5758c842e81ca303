"""The library door: makes a training loop resumable. Everything here runs on the trainer's main thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ...configs.events import Events
from ...configs.heartbeat import Phase
from ...configs.protocol import ExitCode
from ...storage import runs
from ...storage.backends.open import open_backend
from ...storage.persister import open_persister
from ..agreement import Agreement
from ..errors import StorageTrouble
from ..notices import say
from ..origin import origin
from ..parallel import settle_buckets
from ..pulse import Pulse
from ..signals import StopFlag
from .alike import check_alike
from .applying import Fitting
from .cadence import Cadence
from .claiming import claim
from .collective import Circle, open_control
from .interval import mtbf
from .lead import from_rank_zero
from .models import materialize
from .parts import gather_parts
from .predecessors import forget, recall
from .progress import Progress
from .restoring import Found, find
from .saving import Saver
from .session import Session, Tools
from .settings import CheckpointSettings
from .state import Stateful
from .warmstart.loading import load_initial
from .warmstart.settings import InitFrom


class Checkpointer:
    """Saves the state of a run while it trains and brings it back, on all ranks alike.

    Every method is a collective: all ranks call it, in the same order. Needs an initialized process group when there
    is more than one rank.
    """

    def __init__(  # noqa: PLR0913 -- the parts of a run, by name
        self,
        url: str,
        *,
        model: nn.Module | Mapping[str, nn.Module],
        optimizer: Optimizer | Mapping[str, Optimizer] | None = None,
        scheduler: Stateful | None = None,
        scaler: Stateful | None = None,
        loader: Any = None,
        extra: Mapping[str, Stateful] | None = None,
        settings: CheckpointSettings | None = None,
        initialize: Callable[[], object] | None = None,
        init_from: InitFrom | str | None = None,
        control: dist.ProcessGroup | None = None,
        stop: StopFlag | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        """Several models or optimizers are given by name.

        `initialize` fills a model that is on the meta device once it has been given memory: with its first weights, and
        what is in no checkpoint; without it every module's `reset_parameters` does. `init_from`: weights to begin with
        where there is nothing to resume. `control`: a gloo group of all ranks, made here when not given; `stop`: a flag
        whose handlers are in place; `pulse`: one that beats already.

        Raises:
            NotCaptured: the loader's position cannot be saved.
            BadUrl: nothing serves this URL.
        """
        self._settings = settings or CheckpointSettings()
        self._own_control = None if control is not None else open_control()
        control = control or self._own_control
        self._origin = origin()
        self._tools = Tools(
            circle=Circle(control),
            agreement=Agreement(control),
            pulse=pulse or Pulse(self._origin),
            events=Events(self._origin.run_dir, self._origin.rank),
            stop=StopFlag().__enter__() if stop is None else stop,  # A flag that is down is false.
            settings=self._settings,
        )
        self._circle = self._tools.circle
        self._backend = open_backend(url)
        shared = {"scheduler": scheduler, "scaler": scaler, **(extra or {})}
        self._parts, sampler = gather_parts(model, optimizer, shared, loader)
        self.progress = Progress(sampler=sampler, on_epoch=self._begin_epoch, on_end=self.finish)
        self._session: Session | None = None
        self._initialize = initialize
        self._init_from = init_from
        if self._settings.overlap:
            for each in self._parts.optimizers.values():
                each.register_step_pre_hook(self._before_optimizer_step)

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
            StateMismatch: the checkpoint, or what `init_from` names, does not fit; nothing was applied.
            BadWeights: what `init_from` names cannot be found or read.
            StorageRefused: the URL holds another run, or cannot keep two launchers apart.
            StorageTrouble: the storage did not answer.
        """
        self._tools.pulse.beat(Phase.RESTORING)
        self._settle()
        run = from_rank_zero(self._circle, self._register)
        found = self._find_and_apply(run)
        cadence = Cadence(
            self._settings.interval,
            mtbf_s=mtbf(self._origin.failures, self._origin.watched_s),
            overhead=self._settings.overhead,
        )
        self._session = Session(self._tools, self._parts, self.progress, self._open_saver(run, found), cadence)
        if found is not None:
            self._session.resumed(durable=found.head.resumed_from is not None)
            where = f"{found.head.id.name}{', in memory' if found.head.from_memory else ''}"
            self._say(f"resumed from step {self.progress.step} (epoch {self.progress.epoch}, {where})")
        else:
            self._say(f"starting from step 0: nothing to resume from at {self.url}")
        self._session.begin_training()
        return self.progress

    def step(self, *, loss: torch.Tensor | float | None = None, batches: int = 1) -> bool:
        """After every optimizer step. True: told to stop, and the state is saved; leave with `exit_code`.

        `loss` is this rank's; it is looked at only when a checkpoint is saved. `batches`: how many global
        batches made up the step, where a loop of your own adds up several.

        Raises:
            SavesKeepFailing: the configured number of saves in a row has failed.
            Fenced: a newer launcher goes on with this run.
        """
        session = self._require_session()
        self.progress.advance(batches)
        stopped = session.step(loss)
        if stopped:
            self._close()
            session.beat(Phase.FINISHED)
        return stopped

    def finish(self) -> None:
        """At the end of training: the final state is committed when this returns. Called once more, it does nothing.

        Raises:
            StorageTrouble: the final checkpoint could not be saved.
        """
        if self._session is None:
            return
        session = self._session
        trouble = session.finish()
        self._close()
        if trouble:
            message = f"the final checkpoint of step {self.progress.step} could not be saved: {trouble}"
            raise StorageTrouble(message)
        session.beat(Phase.FINISHED)

    def evaluating(self) -> None:
        """Tell the launcher that the next step will take longer, because the run is being evaluated."""
        self._tools.pulse.outspoken = True
        self._require_session().pause(Phase.EVALUATING)

    def expect(self, seconds: float) -> None:
        """Tell the launcher that the next step may take so long, so that it is not taken for a hang.

        For what a loop of your own does between two steps: an export, a look at the whole data set. All ranks say it,
        for while one of them is busy the others wait for it. The step's end ends it. A no-op where nobody watches.
        """
        self._tools.pulse.outspoken = True
        self._tools.pulse.expect(seconds)

    def _begin_epoch(self) -> None:
        if self._session is not None:
            self._session.begin_epoch()

    def _settle(self) -> None:
        for model in self._parts.wrapped:
            if isinstance(model, DistributedDataParallel):
                settle_buckets(model)

    def _find_and_apply(self, run: str) -> Found | None:
        check_alike(self._parts, self._circle)
        refill = materialize(self._parts.models, self._initialize)
        fitting = Fitting(self._parts, self._circle.rank, self._circle.size, is_blank=refill is not None)
        remembered = recall(self.url, self._circle, self._settings.saving(self._origin), run=run)
        found = find(self._backend, self._circle, run=run, remembered=remembered, prepare=fitting.prepare)
        if found is not None:
            with found:
                fitting.apply(found)
                self._circle.meet()  # Until here a neighbour may look at what this rank has read.
            self.progress.update(found.head.progress)
        elif refill is not None and fitting.has_begun:
            refill()
        if found is None and self._init_from is not None:
            initial = load_initial(self._parts.model, self._init_from, self._circle)
            self._say(initial.text)
            if self._circle.rank == 0:
                self._tools.events.tell("begun with weights", **initial.facts)
        forget(remembered)
        return found

    def _register(self) -> str:
        settings = self._settings
        return runs.register(self._backend, settings.identity, single_writer=settings.single_writer).run

    def _open_saver(self, run: str, found: Found | None) -> Saver:
        step, resumed_from = (found.head.id.step, found.head.resumed_from) if found is not None else (None, None)
        lineage = claim(self._backend, self._circle, self._origin, run=run, step=step, resumed_from=resumed_from)
        persister = open_persister(self._backend.url, rank=self._circle.rank)
        return Saver(persister, self._circle, lineage, self._settings.saving(self._origin))

    def _before_optimizer_step(self, *_: Any) -> None:
        if self._session is not None:
            self._session.finish_staging()

    def _close(self) -> None:
        self._session = None
        group, self._own_control = self._own_control, None
        if group is not None:
            # Left to the interpreter's end, its threads can abort a process that has done all its work.
            dist.destroy_process_group(group)

    def _say(self, line: str) -> None:
        if self._circle.rank == 0:
            say(line)

    def _require_session(self) -> Session:
        if self._session is None:
            message = "call restore() before the first step, and no step after finish() or after step() returned True"
            raise RuntimeError(message)
        return self._session
