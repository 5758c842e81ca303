"""Savers of one file, written by rank 0 while the others wait: `torch.save` and Lightning Fabric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ..states import Live
from .contender import Contender, Place


class TorchSave(Contender):
    title = "torch.save"
    note = "rank 0 saves, then a barrier; no fsync"

    def save(self, number: int) -> None:
        if self.rank == 0:
            path = self._path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(self.live.state_dict(), path)
        dist.barrier()

    def load(self, number: int) -> None:
        state = torch.load(self._path(number), weights_only=True, map_location="cpu")  # noqa: TID251 -- it is the peer
        self.live.model.load_state_dict(state["model"])
        self.live.optimizer.load_state_dict(state["optimizer"])

    def _path(self, number: int) -> Path:
        return Path(self.place.of(number)) / "checkpoint.pt"


class FabricSave(Contender):
    title = "Fabric.save"
    note = "Lightning Fabric, strategy ddp: rank 0 saves by way of a buffer in memory, then a barrier; no fsync"

    def __init__(self, live: Live, place: Place) -> None:
        super().__init__(live, place)
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        self._fabric = Fabric(
            accelerator="cpu", strategy="ddp", devices=self.ranks, plugins=[TorchElasticEnvironment()]
        )
        self._fabric.launch()

    def save(self, number: int) -> None:
        self._fabric.save(self._path(number), self._state())

    def load(self, number: int) -> None:
        self._fabric.load(self._path(number), self._state())

    def _state(self) -> dict[str, Any]:
        return {"model": self.live.model, "optimizer": self.live.optimizer}

    def _path(self, number: int) -> Path:
        return Path(self.place.of(number)) / "checkpoint.ckpt"
