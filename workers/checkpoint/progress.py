"""Where a run stands: the few numbers that a loop continues from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..sampler import GlobalBatchSampler
from .positions import Position


@dataclass(slots=True)
class Progress:
    """`epoch` counts from 0, `step` counts finished optimizer steps of the whole run.

    `samples` are the global samples consumed in the running epoch; without a position-keeping sampler they stay 0.
    `loss` is the mean over the ranks at the last save, `metrics` the last evaluation.
    """

    epoch: int = 0
    step: int = 0
    samples: int = 0
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    sampler: GlobalBatchSampler | None = field(default=None, repr=False, compare=False)
    on_epoch: Callable[[], object] | None = field(default=None, repr=False, compare=False)
    on_end: Callable[[], object] | None = field(default=None, repr=False, compare=False)
    position: Position | None = field(default=None, repr=False, compare=False)

    def epochs(self, total: int) -> Iterator[int]:
        """The epochs that are left of `total`, the first one from where it was interrupted.

        A sampler is put at its position before each. The caller may leave the loop at any time: an epoch counts as
        finished when the next one is asked for. After the last one the final state is saved.
        """
        while self.epoch < total:
            if self.sampler is not None:
                self.sampler.set_position(self.epoch, self.samples)
            if self.position is not None:
                self.position.go_on()
            if self.on_epoch is not None:
                self.on_epoch()
            yield self.epoch
            self.epoch += 1
            self.samples = 0
            if self.position is not None:
                self.position.turn()
        if self.on_end is not None:
            self.on_end()

    def advance(self, batches: int | None = None) -> None:
        """One more optimizer step, made of `batches` global batches: more than one where a loop adds up by itself."""
        if self.sampler is not None and self.sampler.max_per_rank is not None and not self.sampler.in_steps:
            # A step a micro-batch would move on by a whole global batch each time: samples would be left out unseen.
            message = "a sampler with max_per_rank gives several batches a step: loop over relight.steps(loader, model)"
            raise RuntimeError(message)
        self.step += 1
        if self.sampler is not None:
            for _ in range(1 if batches is None else batches):
                self.samples += self.sampler.span(self.samples)
        elif self.position is not None:
            self.position.finish(batches)

    @property
    def batch_left(self) -> int | None:
        """Samples in the next batch of this epoch; None without a sampler that knows."""
        return None if self.sampler is None else self.sampler.span(self.samples)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "samples": self.samples,
            "loss": self.loss,
            "metrics": dict(self.metrics),
        }

    def update(self, facts: Mapping[str, Any]) -> None:
        """Take the place that a checkpoint describes."""
        self.epoch, self.step, self.samples = facts["epoch"], facts["step"], facts["samples"]
        self.loss, self.metrics = facts["loss"], dict(facts["metrics"])
