"""The section `parallel`: how the model and the samples are spread over the ranks."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import StrictBool, model_validator

from .values import Positive, Section

_SIZE_OF: Final = {"shard": "hsdp", "tensor": "tp+fsdp"}
"""Which mode each of the sizes is for; the others are what is left of the world."""


class ParallelConfig(Section):
    mode: Literal["ddp", "fsdp", "hsdp", "tp+fsdp"] = "ddp"
    shard: Positive | None = None
    tensor: Positive | None = None
    meta: StrictBool = False

    @model_validator(mode="before")
    @classmethod
    def _mode_alone(cls, value: object) -> object:
        """`parallel: fsdp`"""
        return {"mode": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_no_size_of_another_mode(self) -> Self:
        for size, mode in _SIZE_OF.items():
            if getattr(self, size) is not None and self.mode != mode:
                raise ValueError(f"expected {size} only where mode is {mode}; mode is {self.mode}")
        if self.meta and self.mode == "ddp":
            raise ValueError("expected meta: true only where the model is sharded: fsdp, hsdp or tp+fsdp; mode is ddp")
        return self
