"""What a restore does: find the newest state that is whole, on all ranks alike, apply it, and claim the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.nn.parallel import DistributedDataParallel

from ...storage import runs
from ...storage.backends.base import Backend
from ...storage.persister import open_persister
from ..notices import say
from ..origin import Origin
from ..parallel import settle_buckets
from .alike import check_alike
from .applying import Fitting
from .claiming import claim
from .lead import from_rank_zero
from .models import materialize
from .positions import Position
from .predecessors import forget, recall
from .progress import Progress
from .restoring import Found, find
from .saving import Saver
from .session import Tools
from .state import Parts
from .warmstart.loading import load_initial
from .warmstart.settings import InitFrom


@dataclass(frozen=True, slots=True, kw_only=True)
class Resuming:
    """The live objects of a run, and where it is kept. Every method is a collective."""

    backend: Backend
    origin: Origin
    tools: Tools
    parts: Parts
    progress: Progress
    initialize: Callable[[], object] | None
    init_from: InitFrom | str | None

    def settle(self) -> None:
        """Have DDP exchange gradients as it does after its first step, which a resumed run has behind it."""
        for model in self.parts.wrapped:
            if isinstance(model, DistributedDataParallel):
                settle_buckets(model)

    def register(self) -> str:
        """The run at this URL; a new one where there is none. Raises as `from_rank_zero` does."""
        settings = self.tools.settings

        def on_rank_zero() -> str:
            return runs.register(self.backend, settings.identity, single_writer=settings.single_writer).run

        run: str = from_rank_zero(self.tools.circle, on_rank_zero)
        return run

    def find_and_apply(self, run: str) -> Found | None:
        """Bring back the newest state; where there is none, begin with the weights that were asked for."""
        circle, parts = self.tools.circle, self.parts
        check_alike(parts, circle)
        refill = materialize(parts.models, self.initialize)
        fitting = Fitting(parts, circle.rank, circle.size, is_blank=refill is not None)
        remembered = recall(self.backend.url, circle, self.tools.settings.saving(self.origin), run=run)
        found = find(self.backend, circle, run=run, remembered=remembered, prepare=fitting.prepare)
        if found is not None:
            with found:
                fitting.apply(found)
                circle.meet()  # Until here a neighbour may look at what this rank has read.
            self.progress.update(found.head.progress)
            if isinstance(position := parts.per_rank.get("position"), Position):
                position.settle()
        elif refill is not None and fitting.has_begun:
            refill()
        if found is None and self.init_from is not None:
            self._begin_with(self.init_from)
        forget(remembered)
        return found

    def _begin_with(self, source: InitFrom | str) -> None:
        circle = self.tools.circle
        initial = load_initial(self.parts.model, source, circle)
        if circle.rank == 0:
            say(initial.text)
            self.tools.events.tell("begun with weights", **initial.facts)

    def open_saver(self, run: str, found: Found | None) -> Saver:
        """Who saves from here on, in a generation of its own."""
        circle, settings = self.tools.circle, self.tools.settings
        step, resumed_from = (found.head.id.step, found.head.resumed_from) if found is not None else (None, None)
        lineage = claim(self.backend, circle, self.origin, run=run, step=step, resumed_from=resumed_from)
        persister = open_persister(self.backend.url, rank=circle.rank)
        return Saver(persister, circle, lineage, settings.saving(self.origin))
