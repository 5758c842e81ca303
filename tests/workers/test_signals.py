"""Notices: a flag in the trainer, and loader workers that outlive them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from relight.workers.signals import StopFlag

# Every process of the trainer is told twice over; the loader goes on, and the interpreter leaves although an
# unfinished loader is still referred to, as it is by the traceback of an exception.
TRAINER = """
import multiprocessing, os, signal, time
import torch
from relight.workers.replay import open_loader
from relight.workers.sampler import GlobalBatchSampler
from relight.workers.signals import StopFlag

torch.set_num_threads(1)
with StopFlag() as stop:
    sampler = GlobalBatchSampler(64, batch_size=4, rank=0, world_size=1, seed=0)
    batches = iter(open_loader(torch.arange(64), sampler, num_workers=2))
    seen = sum(len(next(batches)) for _ in range(2))  # One of each worker: both have come up.
    workers = multiprocessing.active_children()
    for pid in [worker.pid for worker in workers] + [os.getpid()]:
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGTERM)
    seen += sum(len(batch) for batch in batches) if {finish} else sum(len(next(batches)) for _ in range(8))
    print(seen, bool(stop), all(worker.is_alive() for worker in workers), flush=True)
    {end}
"""


def run(*, finish: bool, end: str) -> subprocess.CompletedProcess[str]:
    script = TRAINER.format(finish=finish, end=end)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_a_notice_to_the_whole_process_group_costs_no_batch() -> None:
    done = run(finish=True, end="")
    assert (done.returncode, done.stdout) == (0, "64 True True\n"), done.stderr


def test_a_trainer_that_fails_after_a_notice_still_leaves() -> None:
    done = run(finish=False, end="raise LookupError('the trainers own')")
    assert done.returncode == 1, done.stderr
    assert done.stdout == "40 True True\n"
    assert "LookupError: the trainers own" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_notice_sets_the_flag_and_does_nothing_else(number: signal.Signals) -> None:
    with StopFlag() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.noticed is number


def test_the_first_notice_is_the_one_that_is_remembered() -> None:
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.noticed is signal.SIGUSR1


def test_handlers_come_back_and_interrupts_are_left_alone() -> None:
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with StopFlag():
        assert signal.getsignal(signal.SIGINT) is before[-1]
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in numbers] == before
