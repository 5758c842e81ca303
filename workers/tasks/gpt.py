"""A GPT learns to write Python, byte by byte, from the source of the standard library, which is on every machine."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import Dataset, Subset

from ..errors import BadTask
from ..task import Task
from .library import Windows, library_text
from .transformer import BYTES, Shape, Transformer, initialize, write

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from ...configs.schema import TrainConfig

_WARMING_UP: Final = 0.05
_LAST_RATE: Final = 0.1
_WEIGHT_DECAY: Final = 0.1
_TEMPERATURE: Final = 0.7


class GPT(Task):
    """10.7 million parameters as it stands."""

    def __init__(  # noqa: PLR0913 -- a task's arguments are its options
        self,
        train: TrainConfig,
        *,
        context: int = 256,
        layers: int = 6,
        heads: int = 6,
        width: int = 384,
        dropout: float = 0.0,
        max_bytes: int | None = None,
        val_windows: int | None = 256,
        prompt: str = "def ",
        sample_bytes: int = 300,
    ) -> None:
        """`context`: bytes that the model looks at, and that a sample is made of. `max_bytes`: of text to train on;
        None: all. `val_windows`: samples to validate with, spread over the held-out text; None: all. `sample_bytes`:
        to be written at the end, after `prompt`; 0: none.

        Raises BadTask for a shape that cannot be.
        """
        super().__init__(train)
        if min(context, layers, heads) < 1 or width < 2 * heads or width % (2 * heads):
            raise BadTask(
                f"task_args: a width of {width} cannot be cut into {heads} heads of an even width. "
                f"Set width to a multiple of {2 * max(heads, 1)}, and context, layers and heads to at least 1"
            )
        self.shape = Shape(context=context, layers=layers, heads=heads, width=width, dropout=dropout)
        self.max_bytes = max_bytes
        self.val_windows = val_windows
        self.prompt = prompt.encode()
        self.sample_bytes = sample_bytes

    def model(self) -> nn.Module:
        return Transformer(self.shape)

    def initialize(self, name: str, module: nn.Module) -> None:
        initialize(name, module, self.shape)

    def tensor_plan(self, model: nn.Module) -> Mapping[str, ParallelStyle]:  # noqa: ARG002 -- all its layers are alike
        return {
            "blocks.*.attention.qkv": ColwiseParallel(),
            "blocks.*.attention.out": RowwiseParallel(),
            "blocks.*.mlp.up": ColwiseParallel(),
            "blocks.*.mlp.out": RowwiseParallel(),
        }

    def optimizer(self, model: nn.Module) -> Optimizer:
        matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        gains = [parameter for parameter in model.parameters() if parameter.ndim < 2]
        groups = [{"params": matrices, "weight_decay": _WEIGHT_DECAY}, {"params": gains, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.train.lr, betas=(0.9, 0.95), fused=True)

    def scheduler(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: warm_cosine(step / total_steps))

    def train_data(self) -> Dataset[Tensor]:
        return Windows(library_text(validation=False, max_bytes=self.max_bytes), self.shape.context)

    def val_data(self) -> Dataset[Tensor]:
        windows = Windows(library_text(validation=True), self.shape.context)
        count = len(windows) if self.val_windows is None else min(len(windows), self.val_windows)
        return Subset(windows, [number * len(windows) // count for number in range(count)])

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        return self._nats(model, batch).mean()

    def metrics(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        nats = self._nats(model, batch).mean(dim=1)
        return {"loss": nats, "bits_per_byte": nats / math.log(2)}

    def finished(self, model: nn.Module) -> str | None:
        if not self.sample_bytes:
            return None
        text = write(
            model,
            self.prompt,
            count=self.sample_bytes,
            context=self.shape.context,
            temperature=_TEMPERATURE,
            seed=self.train.seed,
        )
        return f"a sample:\n\n{printable(text)}"

    def _nats(self, model: nn.Module, batch: Tensor) -> Tensor:
        """`[n, context]`: how surprised the model is by each byte."""
        windows = batch.long()
        scores = model(windows[:, :-1]).float()
        nats = functional.cross_entropy(scores.reshape(-1, BYTES), windows[:, 1:].reshape(-1), reduction="none")
        return nats.view(len(batch), -1)


def warm_cosine(done: float) -> float:
    """Which part of the full rate applies when `done` (0..1) of the steps are: a short rise, then half a cosine."""
    if done < _WARMING_UP:
        return (done + 0.01) / (_WARMING_UP + 0.01)
    left = (1 + math.cos(math.pi * min(1, (done - _WARMING_UP) / (1 - _WARMING_UP)))) / 2
    return _LAST_RATE + (1 - _LAST_RATE) * left


def printable(text: bytes) -> str:
    """For a terminal, which control characters could confuse."""
    return re.sub(r"[^\n\t -~\u00a1-\U0010ffff]", "\ufffd", text.decode(errors="replace"))
