"""What to train: the class that a user writes, and how a config finds it."""

from __future__ import annotations

import importlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .errors import BadTask
from .order import SHUFFLED, Order
from .wrapping.blocks import blocks

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed.tensor.parallel import ParallelStyle
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import Dataset

    from ..configs.schema import TrainConfig

_WAY_OUT = "Write it as module:Class, where module can be imported from the directory you start in"


class Task(ABC):
    """Model, data, optimizer and loss of one training job. Relight owns the loop.

    `self.train` is the config's `train:` section (`lr`, `epochs`, `seed`, ...). A subclass that takes `task_args`
    has an `__init__(self, train, *, my_option=1)` that calls `super().__init__(train)`.

    Every method is called once at each start, on every rank, and has to answer alike on all of them.
    """

    def __init__(self, train: TrainConfig) -> None:
        self.train = train

    @abstractmethod
    def model(self) -> nn.Module:
        """The model, on the CPU. Rank 0's initial weights are the ones that count."""

    def blocks(self, model: nn.Module) -> Iterable[nn.Module]:
        """Where `parallel` shards the model: the modules that are sharded one by one, and are whole one at a time.

        They have to be called, as the model is: it is then that their parameters are gathered. What is left of the
        model is sharded as one. Unless overridden the entries of its outermost ModuleLists and Sequentials.
        """
        return blocks(model)

    def tensor_plan(self, model: nn.Module) -> Mapping[str, ParallelStyle]:  # noqa: ARG002 -- for overriding
        """For `parallel: tp+fsdp`, as torch's `parallelize_module` takes it: how modules are cut, by name.

        `{"layers.*.up": ColwiseParallel(), "layers.*.down": RowwiseParallel()}`. What leaves the model has to be plain
        tensors again, alike on the ranks of a group.
        """
        return {}

    def initialize(self, name: str, module: nn.Module) -> None:
        """For `parallel.meta`: set the values of the parameters and buffers that are `module`'s own.

        Called for every module that has any, alike on all ranks, with whole tensors on the device. `name` is the
        module's in the model. Unless overridden it calls `module.reset_parameters()`.
        """
        reset = getattr(module, "reset_parameters", None)
        if reset is None:
            raise BadTask(
                f"parallel.meta: {name or 'the model'} has parameters or buffers, and no reset_parameters() to set "
                f"them. Define it, override {type(self).__name__}.initialize(), or set parallel.meta=false"
            )
        reset()

    def optimizer(self, model: nn.Module) -> Optimizer:
        """AdamW with `train.lr` unless overridden."""
        return torch.optim.AdamW(model.parameters(), lr=self.train.lr)

    def scheduler(self, optimizer: Optimizer, total_steps: int) -> LRScheduler | None:  # noqa: ARG002 -- for overriding
        """A schedule over `total_steps` optimizer steps, stepped once after each; None keeps the rate constant."""
        return None

    @abstractmethod
    def train_data(self) -> Dataset[Any]:
        """A map-style dataset. Random augmentation belongs here: Relight makes it replay after a restart."""

    def order(self, data: Dataset[Any]) -> Order:  # noqa: ARG002 -- for overriding
        """In which order an epoch goes through `train_data()`: shuffled unless overridden."""
        return SHUFFLED

    def val_data(self) -> Dataset[Any] | None:
        """A map-style dataset for `metrics`, or None: nothing is evaluated."""
        return None

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss over the batch's samples, a scalar. `model` is to be called once."""

    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """For each metric one value per sample, shape `[n]`, so that means over the ranks are exact.

        Has to be defined beside `val_data`. Called in evaluation mode, without gradients.
        """
        raise NotImplementedError

    def finished(self, model: nn.Module) -> str | None:  # noqa: ARG002 -- for overriding
        """What is printed when the run is over: a generated sample, say. Rank 0's answer counts.

        Called after the last checkpoint, in evaluation mode, without gradients. All ranks have to pass through the
        model equally often, for where it is sharded every pass is a collective.
        """
        return None


def load_task(spec: str, train: TrainConfig, task_args: Mapping[str, Any] | None = None) -> Task:
    """The task that `module:Class` names, built with `task_args`.

    Raises BadTask when there is no such module or class, when it is not a Task or an unfinished one, or when it
    does not take these arguments. An error inside the user's own code, an ImportError too, keeps its traceback.
    """
    cls = _find(spec)
    missing = _missing_methods(cls)
    if missing:
        raise BadTask(f"task: {spec!r} does not define {', '.join(f'{name}()' for name in missing)}")
    args = dict(task_args or {})
    try:
        inspect.signature(cls).bind(train, **args)
    except TypeError as error:
        raise BadTask(f"task_args do not fit {spec}: {error}. It takes {_options(cls)}") from None
    return cls(train, **args)


def _find(spec: str) -> type[Task]:
    module_name, colon, class_name = spec.partition(":")
    if not (module_name and colon and class_name):
        raise BadTask(f"task: {spec!r} is not a task. {_WAY_OUT}")
    module = _import(module_name, spec)
    cls = reduce(lambda owner, name: getattr(owner, name, None), class_name.split("."), module)
    if cls is None:
        raise BadTask(f"task: {spec!r}: {module_name} ({_file(module)}) has no {class_name}. {_tasks_in(module)}")
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise BadTask(f"task: {spec!r}: {class_name} is not a class derived from relight.Task. {_tasks_in(module)}")
    return cls


def _missing_methods(cls: type[Task]) -> list[str]:
    """Told at the start, not when the first epoch is over."""
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    unmeasured = cls.val_data is not Task.val_data and cls.metrics is Task.metrics
    return [*missing, "metrics"] if unmeasured else missing


def _import(name: str, spec: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        # As `python -m` does: a task lives next to where its run is started.
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only the spec's own module, or a parent of it, is the spec's fault. An import that fails inside the user's
        # module is the user's bug, to be shown as Python shows it.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise BadTask(
            f"task: {spec!r}: there is no module {error.name!r}, neither installed nor in {here}. {_WAY_OUT}"
        ) from None


def _file(module: Any) -> str:
    return getattr(module, "__file__", None) or "a namespace package"


def _tasks_in(module: Any) -> str:
    classes = {name: it for name, it in vars(module).items() if isinstance(it, type) and it is not Task}
    names = [name for name, it in classes.items() if issubclass(it, Task)]
    return f"Tasks there: {', '.join(names)}" if names else "There are no tasks in it"


def _options(cls: type[Task]) -> str:
    names = list(inspect.signature(cls).parameters)[1:]
    return ", ".join(names) or "none"
