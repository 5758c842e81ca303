"""The training loop of a config and its task: what Relight runs where a user has no loop of their own."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..configs.protocol import ExitCode
from ..configs.schema import Config
from ..storage.retention import Best
from .accumulation import Step, steps
from .checkpoint.checkpointer import Checkpointer
from .checkpoint.progress import Progress
from .checkpoint.settings import CheckpointSettings
from .checkpoint.warmstart.settings import InitFrom
from .display import Display, Moment, Plan, open_display
from .evaluate import conclude, evaluate
from .metrics.opening import open_loggers
from .parallel import World, make_deterministic, to_device, unwrap
from .pulse import Pulse
from .recipe import Recipe
from .replay import length_of, open_loader
from .sampler import GlobalBatchSampler
from .seeding import seed_everything
from .signals import StopFlag
from .task import load_task
from .trace import open_trace
from .wrapping.build import build
from .wrapping.streams import share_streams


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
        self._model = build(self._task, world, config.parallel, config.train.precision)
        # Not before: where the model is sharded, its parameters are new ones now.
        self._optimizer = self._task.optimizer(unwrap(self._model))
        self._scheduler = self._task.scheduler(self._optimizer, self._total_steps)
        self._validation = self._task.val_data()
        seed_everything(config.train.seed, world.data_rank)
        self._checkpointer = self._open_checkpointer(stop, pulse)
        self._trace = open_trace(config.log.trace, world.rank, config.log.every)

    def run(self) -> ExitCode:
        """Train to the end, or until told to stop."""
        progress = self._checkpointer.restore()
        share_streams(self._world)
        display = open_display(
            self._world.rank,
            Plan(epochs=self._config.train.epochs, total_steps=self._total_steps, first_step=progress.step),
        )
        try:
            finished = self._train(progress, display)
        finally:
            display.close()
            self._trace.close()
        if not finished:
            return ExitCode(self._checkpointer.exit_code)
        self._checkpointer.finish()
        self._report(progress, conclude(self._task, self._model))
        return ExitCode.FINISHED

    def _train(self, progress: Progress, display: Display) -> bool:
        """False when told to stop."""
        self._model.train()
        for _ in progress.epochs(self._config.train.epochs):
            for step in steps(self._loader, self._model):
                if progress.step >= self._total_steps:
                    break
                loss = self._step(step)
                stopped = self._checkpointer.step(loss=loss)
                self._trace.step(progress, loss)
                display.step(Moment(progress.epoch, progress.step, loss, step.samples))
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

    def _step(self, step: Step) -> torch.Tensor:
        """One optimizer step; returns this rank's loss, weighted so that the mean over the ranks is the batch's."""
        self._optimizer.zero_grad(set_to_none=True)
        for batch in step:
            step.weighted(self._task.loss(self._model, to_device(batch, self._world.device))).backward()
        self._optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        return step.loss

    def _evaluate(self, progress: Progress, display: Display) -> None:
        if self._validation is None:
            return
        self._checkpointer.evaluating()
        train = self._config.train
        share = max(1, train.batch_size // self._world.data_world_size)
        progress.metrics = evaluate(
            self._task,
            self._model,
            self._validation,
            self._world,
            batch_size=min(share, train.max_per_rank or share),
            num_workers=self._config.data.num_workers,
        )
        shown = "  ".join(f"{name} {value:.4f}" for name, value in progress.metrics.items())
        display.say(f"epoch {progress.epoch + 1}/{self._config.train.epochs} validated: {shown}")

    def _report(self, progress: Progress, conclusion: str | None) -> None:
        """What a person wants to know at the end. `conclusion` is the task's own."""
        if self._world.rank != 0:
            return
        url = self._checkpointer.url
        said = f"{conclusion}\n\n" if conclusion else ""
        metrics = "".join(f"\n  {name:<12} {value:.4f}" for name, value in progress.metrics.items())
        sys.stdout.write(
            f"\n{said}finished: {self._config.name}, {progress.step} steps{metrics}\n"
            f"  checkpoints  {url}\n\n"
            f"next:\n"
            f"  relight ls {url}        what was saved\n"
            f"  relight verify {url}    read and prove every byte\n"
        )
        sys.stdout.flush()

    def _open_data(self) -> tuple[GlobalBatchSampler, DataLoader[Any]]:
        config, data = self._config, self._task.train_data()
        sampler = GlobalBatchSampler(
            length_of(data),
            batch_size=config.train.batch_size,
            rank=self._world.data_rank,
            world_size=self._world.data_world_size,
            seed=config.train.seed,
            drop_last=config.data.drop_last,
            order=self._task.order(data),
            max_per_rank=config.train.max_per_rank,
        )
        on_gpu = self._world.device.type == "cuda"
        return sampler, open_loader(data, sampler, num_workers=config.data.num_workers, pin_memory=on_gpu)

    def _count_steps(self) -> int:
        total = self._sampler.steps_left * self._config.train.epochs
        return min(total, self._config.train.steps or total)

    def _open_checkpointer(self, stop: StopFlag, pulse: Pulse) -> Checkpointer:
        config, best = self._config, self._config.checkpoint.keep_best
        return Checkpointer(
            config.storage.url,
            model=self._model,
            optimizer=self._optimizer,
            scheduler=self._scheduler,
            loader=self._loader,
            init_from=InitFrom(**config.init_from.model_dump()) if config.init_from.source is not None else None,
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
                recipe=Recipe.of(config).model_dump(mode="json"),
                loggers=open_loggers(config.metrics.tensorboard, config.metrics.loggers),
                log_every=config.log.every,
            ),
            control=self._world.control,
            stop=stop,
            pulse=pulse,
        )
