"""Staging from one NVIDIA GPU: `python benchmarks/gpu.py [--bytes 4GiB] [--json OUT]`.

Runs as it is, with torch alone (2.11 or newer) and no installed Relight: what it measures is the machine and the
method, that is, copies of model and optimizer state into host memory that is laid out as a shard file. Where Relight
can be imported, its own stall is measured too.
"""

from __future__ import annotations

import argparse
import json
import mmap
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

_ROUNDS = 7
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=_size, default="4GiB", help="model and AdamW state, float32")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("benchmarks/gpu.py: torch sees no NVIDIA GPU on this machine; nothing was measured\n")
        return 3
    report = measure(options.bytes)
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    return 0


def _size(text: str) -> int:
    unit = text[-3:]
    return int(float(text[:-3]) * _UNITS[unit]) if unit in _UNITS else int(text)


def measure(total_bytes: int) -> dict[str, Any]:
    training = Training(total_bytes)
    host = HostBuffer(training.size)
    pageable = _by_turns({"pageable_d2h_s": lambda: host.fill(training.tensors())})
    registered_s = _timed(host.pin)
    found = _by_turns(
        {
            "raw_d2h_s": host.raw_copy,
            "pinned_d2h_s": lambda: host.fill(training.tensors()),
            "step_s": training.step,
            "step_with_blocking_copy_s": lambda: training.step_and_stop(copy=host),
            "step_with_overlapped_copy_s": lambda: training.step(copy=host),
        }
    )
    host.unpin()
    medians = {name: statistics.median(samples) for name, samples in (pageable | found).items()}
    return {
        "benchmark": "gpu",
        "ratios": {
            "pinned_over_raw_d2h": medians["pinned_d2h_s"] / medians["raw_d2h_s"],
            "pageable_over_pinned": medians["pageable_d2h_s"] / medians["pinned_d2h_s"],
            "blocking_stall_over_raw_d2h": (medians["step_with_blocking_copy_s"] - medians["step_s"])
            / medians["raw_d2h_s"],
            "overlapped_stall_over_raw_d2h": (medians["step_with_overlapped_copy_s"] - medians["step_s"])
            / medians["raw_d2h_s"],
        },
        "bytes": training.size,
        "pinned_gib_per_s": training.size / medians["pinned_d2h_s"] / (1 << 30),
        "register_s": registered_s,
        "medians_s": medians,
        "samples_s": pageable | found,
        "relight": _relight(training),
        "device": torch.cuda.get_device_name(),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "python": sys.version.split()[0]},
    }


class Training:
    """Square layers on the GPU with AdamW, and a batch whose step takes a few hundred milliseconds at 4 GiB."""

    def __init__(self, total_bytes: int) -> None:
        width = 4096 if total_bytes >= 1 << 30 else 512
        count = max(1, total_bytes // (12 * width * width))
        layers = [nn.Linear(width, width, bias=False) for _ in range(count)]
        self.model = nn.Sequential(*layers).cuda()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, fused=True)
        self._batch = torch.rand(4096, width, device="cuda")
        self._copies = torch.cuda.Stream()
        for _ in range(3):
            self.step()

    def tensors(self) -> list[torch.Tensor]:
        moments = [self.optimizer.state[each] for each in self.model.parameters()]
        return [
            *(each.detach() for each in self.model.parameters()),
            *(state[name] for state in moments for name in ("exp_avg", "exp_avg_sq")),
        ]

    @property
    def size(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors())

    def step_and_stop(self, copy: HostBuffer) -> None:
        """A step, and then nothing but the copy."""
        self.step()
        copy.fill(self.tensors())

    def step(self, copy: HostBuffer | None = None) -> None:
        """With `copy`: begun on a side stream, beside forward and backward, awaited by the optimizer's step."""
        if copy is not None:
            self._copies.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._copies):
                copy.fill(self.tensors())
        self.optimizer.zero_grad()
        self.model(self._batch).square().mean().backward()
        if copy is not None:
            torch.cuda.current_stream().wait_stream(self._copies)
        self.optimizer.step()


class HostBuffer:
    """Memory that stays, as an arena does: every page touched, and pinned in place by cudaHostRegister."""

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size)
        self._flat = torch.frombuffer(self._memory, dtype=torch.uint8)
        self._flat.fill_(1)
        self._device = torch.zeros(size, dtype=torch.uint8, device="cuda")

    def pin(self) -> None:
        _check(torch.cuda.cudart().cudaHostRegister(self._flat.data_ptr(), self._flat.numel(), 0))

    def unpin(self) -> None:
        torch.cuda.synchronize()
        _check(torch.cuda.cudart().cudaHostUnregister(self._flat.data_ptr()))

    def raw_copy(self) -> None:
        """As many bytes in one piece: the floor."""
        self._flat.copy_(self._device, non_blocking=True)

    def fill(self, tensors: list[torch.Tensor]) -> None:
        """One after the other, as they lie in the shard file."""
        start = 0
        for tensor in tensors:
            target = self._flat[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            target.copy_(tensor, non_blocking=True)
            start += tensor.nbytes


def _check(answer: Any) -> None:
    if int(answer) != 0:
        message = f"CUDA answered {answer} to (un)registering host memory"
        raise RuntimeError(message)


def _relight(training: Training) -> dict[str, Any]:
    """The stall of `Checkpointer.step` where a save is due, if Relight can be imported here."""
    try:
        import relight

        settings = relight.CheckpointSettings(every=4, keep_last=1)
    except ImportError as error:
        return {"absent": f"Relight cannot be imported: {error}"}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = relight.Checkpointer(
            f"{folder}/run", model=training.model, optimizer=training.optimizer, settings=settings
        )
        checkpoint.restore()
        stalls: list[float] = []
        others: list[float] = []
        for number in range(1, 4 * _ROUNDS + 1):
            training.step()
            took_s = _timed(lambda: checkpoint.step(loss=0.5))
            (stalls if number % 4 == 0 else others).append(took_s)
        checkpoint.finish()
    return {"stall_samples_s": stalls, "other_steps_s": others}


def _by_turns(acts: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Each once a round, after a round that is not counted."""
    samples: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(_ROUNDS + 1):
        for name, act in acts.items():
            took_s = _timed(act)
            if number:
                samples[name].append(took_s)
    return samples


def _timed(act: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    act()
    torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
