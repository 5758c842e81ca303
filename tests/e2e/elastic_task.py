"""The tiny task in an order of its own, noting for every micro-batch in which life of the run it was seen."""

from __future__ import annotations

import json
import os
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from relight.configs.protocol import ENV_ATTEMPT, ENV_INCARNATION
from relight.tests.e2e.tiny_task import SAMPLES, Tiny
from relight.workers.order import BucketedOrder, Order

GROUP = 32


class Elastic(Tiny):
    def order(self, data: Dataset[Any]) -> Order:
        return BucketedOrder([index % 7 for index in range(SAMPLES)], group=GROUP)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        assert self.schedule is not None
        line = {
            "life": f"{os.environ[ENV_INCARNATION]}/{os.environ[ENV_ATTEMPT]}",
            "world": int(os.environ["WORLD_SIZE"]),
            "step": self.schedule.last_epoch + 1,
            "samples": batch[2].tolist(),
        }
        with (self.notes / f"seen-{self.rank}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return super().loss(model, batch)
