"""How a config's model is made: kept beside every checkpoint, for who wants the whole model elsewhere.

It belongs to no state: nothing of it is loaded at a resume or counts in a digest, and a run may go on with another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ..configs.schema import TrainConfig
from .task import load_task

if TYPE_CHECKING:
    from torch import nn

    from ..configs.schema import Config

RECIPE: Final = "recipe"
"""Under which name it stands in rank 0's own state."""


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True)

    task: str
    task_args: dict[str, JsonValue] = Field(default_factory=dict)
    train: TrainConfig

    @classmethod
    def of(cls, config: Config) -> Recipe:
        return cls(task=config.task, task_args=config.task_args, train=config.train)

    @classmethod
    def read(cls, own_state: Mapping[str, Any]) -> Recipe | None:
        """From what rank 0 has saved of its own; None where there is none, or none that is understood."""
        try:
            return cls.model_validate(own_state.get(RECIPE))
        except ValidationError:
            return None

    def model(self) -> nn.Module:
        """The model, untrained. Raises BadTask."""
        return load_task(self.task, self.train, self.task_args).model()
