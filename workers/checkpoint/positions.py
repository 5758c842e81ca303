"""The position in a plain DataLoader, whatever sampler it has: how far this rank is, and how the order was drawn.

An order that was drawn is drawn again: the generators are put where they were when the pass began, the batches that
were finished are passed over as indices, without loading them, and the generators are put back. So the pass goes on as
if nothing had happened, and a script draws the same numbers with a Checkpointer as without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import torch
from torch.utils.data import DataLoader

from . import rng
from .reading_on import batches_read, facts_of, generators_of
from .watching import SeededBatch, watch
from .wrapped import Passes

_WORD: Final = (1 << 64) - 1


class Position:
    """One rank's, in its own loader. `load_state_dict`, then `settle` once all of the checkpoint is applied.

    What the loop was given is what counts, so steps may be made of several batches, or of none. A loop that looks
    ahead has been given more than it has trained on: it says with `finish(batches)` what it has finished.
    """

    def __init__(self, loader: DataLoader[Any], passes: Passes) -> None:
        """Takes the place of the loader's batch sampler, and counts what it gives.

        Raises:
            NotCaptured: the loader has workers already, which would not hear of it.
        """
        # Not the loader: in a circle with it, its workers would end when it pleases the collector, in any thread.
        self._has_workers = loader.num_workers > 0
        self._passes = passes
        self._sampler = watch(loader, self)
        self._generators = generators_of(loader, self._sampler.inner)
        self._facts = facts_of(loader, self._sampler.inner)
        self._seed = torch.initial_seed() & _WORD
        self._number = 0  # Of the pass, over all lives.
        self._under_way = False
        self._begun: dict[str, Any] | None = None
        self._given = 0
        self._finished = 0
        self._said = False
        self._skipped = 0
        self._pending = False
        self._drawn_by_then: dict[str, Any] | None = None

    @property
    def skipped(self) -> int:
        """Batches at the beginning of the pass that an earlier life has finished."""
        return self._finished if self._pending else self._skipped

    def finish(self, batches: int | None) -> None:
        """A step was made of so many batches; None: of all that the loop was given."""
        self._pending = False
        if batches is not None:
            self._said = True
            self._finished += batches
        elif not self._said:
            self._finished = self._given - self._passes.ahead()

    def go_on(self) -> None:
        """A loop begins where an earlier one was left: with the batch behind the last that was finished."""
        if self._finished and not self._pending:
            self._pending = True
            self.settle()

    def turn(self) -> None:
        """The epoch is over: the next pass begins at the beginning."""
        self._passes.turn()
        self._pending = self._under_way = False
        self._begun = None
        self._given = self._finished = self._skipped = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "facts": dict(self._facts),
            "finished": self._finished,
            "number": self._number,
            "passes": self._passes.count(under_way=self._under_way),
            "seed": self._seed,
            "begun": self._begun,
            "generators": [each.get_state() for each in self._generators],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = state_dict
        self._finished, self._number, self._seed = state["finished"], state["number"], state["seed"]
        self._begun = state["begun"]
        self._pending = self._finished > 0
        self._passes.go_on(state["passes"])
        self._put(state["generators"])

    def settle(self) -> None:
        """The generators of this process are as they were at the checkpoint."""
        self._drawn_by_then = rng.capture()

    def mismatches(self, saved: Sequence[Mapping[str, Any]], world_size: int) -> list[str]:
        """Why the states of the ranks that wrote a checkpoint cannot be gone on from in this world.

        Their numbers and strings are looked at, so they may be as they are encoded.
        """
        _, problems = batches_read(saved, self._facts, world_size)
        return [f"data: {problem}" for problem in problems]

    def reshard(self, states: list[dict[str, Any]], rank: int, world_size: int) -> dict[str, Any]:  # noqa: ARG002 -- all ranks are as far
        """Another world, where a DistributedSampler deals the same order to more or fewer ranks."""
        finished, _ = batches_read(states, self._facts, world_size)
        return {**states[0], "finished": finished, "begun": None, "generators": [], "seed": self._seed}

    def walk(self) -> Iterator[Any]:
        """The batches of indices of a pass; of one that an earlier life began, those that are left."""
        resumed = self._pending
        self._begin_pass(resumed=resumed)
        batches = iter(self._sampler.inner)
        for _ in islice(batches, self._skipped):
            pass
        if resumed and self._drawn_by_then is not None:
            # Making the loader's iterator has drawn from them once more than in the undisturbed run.
            rng.restore(self._drawn_by_then)
        for number, batch in enumerate(batches, self._skipped):
            yield self._ship(batch, number)
        self._pending = False

    def give(self) -> None:
        """The loop gets one more batch."""
        self._given += 1

    def _begin_pass(self, *, resumed: bool) -> None:
        self._under_way = True
        self._skipped = self._given = self._finished = self._finished if resumed else 0
        if not resumed:
            self._number += 1
            own = [each.get_state() for each in self._generators]
            self._begun = {"process": rng.capture(devices=False), "own": own}
        elif self._begun is not None:
            rng.restore(self._begun["process"])
            self._put(self._begun["own"])

    def _ship(self, batch: Any, number: int) -> Any:
        if self._has_workers and type(batch) is list:
            return SeededBatch(batch, self._seed, self._number, number)
        return batch

    def _put(self, states: Sequence[torch.Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=False):
            generator.set_state(state)
