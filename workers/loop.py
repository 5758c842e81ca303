"""The training loop of a config and its task: what Relight runs where a user has no loop of their own."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..configs.protocol import ExitCode
from ..configs.schema import Config
from ..storage.retention import Best
from .checkpoint.checkpointer import Checkpointer
from .checkpoint.progress import Progress
from .checkpoint.settings import CheckpointSettings
from .display import Display, Moment, Plan, open_display
from .evaluate import evaluate
from .parallel import World, make_deterministic, seed_everything, to_device, wrap
from .pulse import Pulse
from .replay import open_loader
from .sampler import GlobalBatchSampler
from .scalars import open_scalars
from .signals import StopFlag
from .task import load_task
from .trace import open_trace


class Trainer:
    """One rank's part in one life of a run. Built alike on every rank; every method is a collective."""

    def __init__(self, config: Config, world: World, stop: StopFlag, pulse: Pulse) -> None:
        self._config = config
        self._world = world
        if config.train.deterministic:
            make_deterministic()
        # Alike on all ranks while the task is built; each rank's own stream begins with the training.
        seed_everything(config.train.seed, 0)
        self._task = load_task(config.task, config.train, config.task_args)
        self._sampler, self._loader = self._open_data()
        self._total_steps = self._count_steps()
        model = self._task.model()
        self._model = wrap(model, world)
        self._optimizer = self._task.optimizer(model)
        self._scheduler = self._task.scheduler(self._optimizer, self._total_steps)
        self._validation = self._task.val_data()
        seed_everything(config.train.seed, world.rank)
        self._checkpointer = self._open_checkpointer(stop, pulse)
        self._trace = open_trace(config.log.trace, world.rank, config.log.every)

    def run(self) -> ExitCode:
        """Train to the end, or until told to stop."""
        progress = self._checkpointer.restore()
        metrics, log = self._config.metrics, self._config.log
        self._scalars = open_scalars(
            metrics.tensorboard, rank=self._world.rank, every=log.every, first_step=progress.step
        )
        display = open_display(
            self._world.rank,
            Plan(epochs=self._config.train.epochs, total_steps=self._total_steps, first_step=progress.step),
        )
        try:
            finished = self._train(progress, display)
        finally:
            display.close()
            self._trace.close()
            self._scalars.close()
        if not finished:
            return ExitCode(self._checkpointer.exit_code)
        self._checkpointer.finish()
        self._report(progress)
        return ExitCode.FINISHED

    def _train(self, progress: Progress, display: Display) -> bool:
        """False when told to stop."""
        self._model.train()
        for _ in progress.epochs(self._config.train.epochs):
            for batch in self._loader:
                if progress.step >= self._total_steps:
                    break
                samples = self._sampler.span(progress.samples)
                loss = self._step(batch, self._sampler.weight(progress.samples))
                stopped = self._checkpointer.step(loss=loss)
                self._trace.step(progress, loss)
                self._scalars.step(progress.step, loss)
                display.step(Moment(progress.epoch, progress.step, loss, samples))
                if stopped:
                    return False
            self._evaluate(progress, display)
            if self._cut_short(progress):
                break
        return True

    def _cut_short(self, progress: Progress) -> bool:
        """`train.steps` is reached before the last epoch is over: the epoch does not count as finished."""
        unfinished = self._sampler.span(progress.samples) > 0 or progress.epoch + 1 < self._config.train.epochs
        return progress.step >= self._total_steps and unfinished

    def _step(self, batch: Any, weight: float) -> torch.Tensor:
        """One optimizer step; returns this rank's loss, weighted so that the mean over the ranks is the batch's."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._task.loss(self._model, to_device(batch, self._world.device)) * weight
        loss.backward()
        self._optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        return loss.detach()

    def _evaluate(self, progress: Progress, display: Display) -> None:
        if self._validation is None:
            return
        self._checkpointer.evaluating()
        batch_size = max(1, self._config.train.batch_size // self._world.world_size)
        progress.metrics = evaluate(
            self._task,
            self._model,
            self._validation,
            self._world,
            batch_size=batch_size,
            num_workers=self._config.data.num_workers,
        )
        self._scalars.metrics(progress.step, progress.metrics)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in progress.metrics.items())
        display.say(f"epoch {progress.epoch + 1}/{self._config.train.epochs} validated: {shown}")

    def _report(self, progress: Progress) -> None:
        """What a person wants to know at the end."""
        if self._world.rank != 0:
            return
        url = self._checkpointer.url
        metrics = "".join(f"\n  {name:<12} {value:.4f}" for name, value in progress.metrics.items())
        sys.stdout.write(
            f"\nfinished: {self._config.name}, {progress.step} steps{metrics}\n"
            f"  checkpoints  {url}\n\n"
            f"next:\n"
            f"  relight ls {url}        what was saved\n"
            f"  relight verify {url}    read and prove every byte\n"
        )
        sys.stdout.flush()

    def _open_data(self) -> tuple[GlobalBatchSampler, DataLoader[Any]]:
        config, data = self._config, self._task.train_data()
        sampler = GlobalBatchSampler(
            len(data),  # type: ignore[arg-type]  # every map-style dataset has a length
            batch_size=config.train.batch_size,
            rank=self._world.rank,
            world_size=self._world.world_size,
            seed=config.train.seed,
            drop_last=config.data.drop_last,
        )
        on_gpu = self._world.device.type == "cuda"
        return sampler, open_loader(data, sampler, num_workers=config.data.num_workers, pin_memory=on_gpu)

    def _count_steps(self) -> int:
        steps = len(self._sampler) * self._config.train.epochs
        return min(steps, self._config.train.steps or steps)

    def _open_checkpointer(self, stop: StopFlag, pulse: Pulse) -> Checkpointer:
        config, best = self._config, self._config.checkpoint.keep_best
        return Checkpointer(
            config.storage.url,
            model=self._model,
            optimizer=self._optimizer,
            scheduler=self._scheduler,
            loader=self._loader,
            settings=CheckpointSettings(
                every=config.checkpoint.every,
                memory_every=config.checkpoint.memory_every,
                when_busy=config.checkpoint.when_busy,
                arenas=config.checkpoint.arenas,
                overlap=config.checkpoint.overlap,
                overhead=config.checkpoint.overhead,
                keep_last=config.checkpoint.keep_last,
                keep_every=config.checkpoint.keep_every,
                keep_best=Best(**best.model_dump()) if best else None,
                pin=config.checkpoint.pin,
                deadline_s=config.checkpoint.save_deadline_s,
                max_failed_saves=config.checkpoint.max_failed_saves,
                single_writer=config.storage.single_writer,
                identity=config.identity,
            ),
            control=self._world.control,
            stop=stop,
            pulse=pulse,
        )
