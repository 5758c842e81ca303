"""A small training: gloo all-reduces, a step a rank keeps in a file, and a beat after each one.

    train.py STATE STOP [--loader N] [--program]

It goes on from the step in STATE until the file STOP is there. Told to stop, it still takes batches from its loader.
`--program` leaves a program running beside it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from relight.configs.heartbeat import Heartbeat, Phase
from relight.configs.protocol import ExitCode


class Numbers(Dataset[tuple[int, int]]):
    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, os.getpid()


told: list[int] = []
signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))

state, stop = Path(sys.argv[1]), Path(sys.argv[2])
loaders = int(sys.argv[4]) if len(sys.argv) > 3 else 0
dist.init_process_group("gloo")
rank = dist.get_rank()
batches = iter(DataLoader(Numbers(), batch_size=2, num_workers=loaders))
if "--program" in sys.argv:
    subprocess.Popen(["sleep", "1000"])
step = json.loads(state.read_text()) if state.exists() else 0

with Heartbeat(Path(os.environ["RELIGHT_RUN_DIR"]), rank) as heartbeat:
    while True:
        _, loader_pids = next(batches)
        want = torch.tensor([float(bool(told)), float(stop.exists())])
        dist.all_reduce(want)
        step += 1
        if rank == 0:
            partial = state.with_suffix(".partial")
            partial.write_text(json.dumps(step))
            partial.rename(state)
        # That rank 0 has written this step is known to the others one step later.
        heartbeat.beat(Phase.TRAINING, step=step, committed_step=step if rank == 0 else step - 1)
        if want[0]:
            survivors = {int(next(batches)[1][0]) for _ in range(4 * max(loaders, 1))}
            sys.stdout.write(f"rank {rank} saved with {len(survivors)} loaders\n")
            raise SystemExit(ExitCode.PREEMPTED)
        if want[1]:
            break
dist.destroy_process_group()
