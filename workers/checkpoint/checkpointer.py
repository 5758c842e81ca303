"""The library door: makes a training loop resumable. Everything here runs on the trainer's main thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from ...configs.events import Events
from ...configs.heartbeat import Phase
from ...configs.protocol import ExitCode
from ...storage.backends.open import open_backend
from ..agreement import Agreement
from ..errors import StorageTrouble
from ..notices import say
from ..origin import origin
from ..pulse import Pulse
from ..signals import StopFlag
from .cadence import Cadence
from .collective import Circle, open_control
from .interval import mtbf
from .parts import gather_parts
from .positions import Position
from .progress import Progress
from .resuming import Resuming
from .session import Session, Tools
from .settings import CheckpointSettings
from .state import Stateful
from .warmstart.settings import InitFrom

_RESTORED: WeakSet[Checkpointer] = WeakSet()


class Checkpointer:
    """Saves the state of a run while it trains and brings it back, on all ranks alike.

        checkpoint = relight.Checkpointer("runs/mine", model=model, optimizer=optimizer, loader=loader)
        for epoch in checkpoint.restore().epochs(10):
            for batch in loader:
                ...
                if checkpoint.step(loss=loss):  # told to stop, and saved
                    raise SystemExit(checkpoint.exit_code)

    Every method is a collective: all ranks call it, in the same order. Needs an initialized process group when there
    is more than one rank. Models, optimizers and loaders may be as they are or as DDP, FSDP2, torch.compile, Lightning
    Fabric or Accelerate have wrapped them: names in a checkpoint are the user's own.
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
        flag = StopFlag().__enter__() if stop is None else stop  # Not `or`: a flag that is down is false.
        self._own_stop = flag if stop is None else None
        self._own_control = None if control is not None else open_control()
        control = control or self._own_control
        self._origin = origin()
        self._tools = Tools(
            circle=Circle(control),
            agreement=Agreement(control),
            pulse=pulse or Pulse(self._origin),
            events=Events(self._origin.run_dir, self._origin.rank),
            stop=flag,
            settings=self._settings,
        )
        self._circle = self._tools.circle
        self._backend = open_backend(url)
        shared = {"scheduler": scheduler, "scaler": scaler, **(extra or {})}
        self._parts, sampler = gather_parts(model, optimizer, shared, loader)
        own = self._parts.per_rank.get("position")
        position = own if isinstance(own, Position) else None
        self.progress = Progress(sampler=sampler, position=position, on_epoch=self._begin_epoch, on_end=self.finish)
        self._session: Session | None = None
        self._resuming = Resuming(
            backend=self._backend, origin=self._origin, tools=self._tools, parts=self._parts, progress=self.progress,
            initialize=initialize, init_from=init_from,
        )  # fmt: skip
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
        self._take_over()
        self._tools.pulse.beat(Phase.RESTORING)
        self._resuming.settle()
        run = self._resuming.register()
        found = self._resuming.find_and_apply(run)
        cadence = Cadence(
            self._settings.interval,
            mtbf_s=mtbf(self._origin.failures, self._origin.watched_s),
            overhead=self._settings.overhead,
        )
        self._session = Session(self._tools, self._parts, self.progress, self._resuming.open_saver(run, found), cadence)
        if found is not None:
            self._session.resumed(durable=found.head.resumed_from is not None)
            where = f"{found.head.id.name}{', in memory' if found.head.from_memory else ''}"
            self._say(f"resumed from step {self.progress.step} (epoch {self.progress.epoch}, {where})")
        else:
            self._say(f"starting from step 0: nothing to resume from at {self.url}")
        self._session.begin_training()
        return self.progress

    def step(self, *, loss: torch.Tensor | float | None = None, batches: int | None = None) -> bool:
        """After every optimizer step. True: told to stop, and the state is saved; leave with `exit_code`.

        `loss` is this rank's; it is looked at only when a checkpoint is saved. `batches`: how many batches made up the
        step. Unless given it is one with a GlobalBatchSampler, and otherwise all that the loader has given out since
        the last step: a loop that looks ahead in its loader has to say.

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
        if self._own_stop is not None and self._origin.run_dir is None:
            self._own_stop.__exit__(None, None, None)  # Nobody is left to look at it; a launcher would take it amiss.
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

    def _take_over(self) -> None:
        """From here on nobody else in this process saves to the run: a cell of a notebook may be run again."""
        for other in [each for each in _RESTORED if each.url == self.url]:
            other._leave()  # noqa: SLF001 -- one of this class
        _RESTORED.add(self)
        if self._own_stop is not None:
            self._own_stop.__enter__()

    def _leave(self) -> None:
        """Let what is being saved come to its end, and save no more."""
        session, self._session = self._session, None
        if session is not None:
            self._tools.agreement.read()
            session.saver.close()

    def _begin_epoch(self) -> None:
        if self._session is not None:
            self._session.begin_epoch()

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
