"""What real runs leave, really killed: the report tells it, and TensorBoard shows each step once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from relight.orchestrator.reporting.making import read
from relight.orchestrator.reporting.story import Kind
from relight.tests.e2e.running import Run
from relight.tests.workers.test_scalars import shown

_SCRIPT = """
import sys
from pathlib import Path
import torch
from torch.nn.functional import mse_loss
import relight

class Mine:
    def begin(self, run): self.file = open("logged.txt", "a"); print("begin", run.first_step, run.name, file=self.file)
    def log(self, step, scalars): print(step, *scalars, file=self.file, flush=True)
    def end(self, outcome): print("end", outcome.value, file=self.file, flush=True)

torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
settings = relight.CheckpointSettings(every=10, memory_every="never", loggers=[Mine()], log_every=5)
checkpoint = relight.Checkpointer("run", model=model, optimizer=optimizer, settings=settings)
progress = checkpoint.restore()
while progress.step < 40:
    points = torch.randn(16, 4)
    loss = mse_loss(model(points), points.sum(dim=1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if progress.step == 24 and not Path("died").exists():
        Path("died").touch()
        raise ValueError("no such <column>")
    if progress.step % 10 == 9:
        progress.metrics = {"fit": 1 - loss.item()}
    if checkpoint.step(loss=loss):
        raise SystemExit(checkpoint.exit_code)
checkpoint.finish()
"""


def test_scalars_go_on_seamlessly_whatever_is_killed(folder: Path) -> None:
    """Also just after a save that an evaluation follows: the evaluation is done again, the step before it is not."""
    kills = [[0, 17], [1, 20], [0, 33], [1, 49], [0, 64]]
    run = Run(
        folder,
        f"task_args.kill={kills}",
        "train.epochs=5",
        "checkpoint={every: 16, memory_every: never, when_busy: wait}",
        "restart={max_without_progress: 9, backoff_s: 0.0}",
        "data.num_workers=0",
        f"metrics.tensorboard={folder}/board",
    )
    assert run.finish() == 0, run.text
    losses = run.losses(0)
    assert run.text.count("was killed by SIGKILL") == len(kills)
    board = shown(folder / "board")
    assert board["loss"] == [(step, round(losses[step], 4)) for step in range(1, 81)]
    assert [step for step, _ in board["metrics/accuracy"]] == [16, 32, 48, 64, 80]

    story = read(run.address, time.time())
    assert [series.name for series in story.series] == ["loss", "accuracy"]
    marked = [mark.step for mark in story.marks if mark.kind is Kind.FAILURE]
    assert len(marked) == len(kills)
    points = [point for each in story.series[0].stretches for point in each.points]
    assert points
    assert all(abs(point.value - losses[point.step]) < 1e-5 for point in points)
    standing = [p.step for each in story.series[1].stretches if not each.abandoned for p in each.points]
    assert sorted(set(standing)) == [16, 32, 48, 64, 80]
    saves = {save.step: save for save in story.saves}
    assert (saves[80].stall_s or 0) > 0 < (saves[80].persist_s or 0)


def test_a_script_is_reported_as_well_by_its_url_alone(folder: Path) -> None:
    (folder / "script.py").write_text(_SCRIPT)
    command = [sys.executable, "-m", "relight", "run", "--nproc-per-node", "1", "script.py"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert ran.returncode == 0, ran.stderr
    told = subprocess.run(
        [sys.executable, "-m", "relight", "report", "run", "--json"], cwd=folder, capture_output=True, check=True
    )
    story = json.loads(told.stdout)
    assert [series["name"] for series in story["series"]] == ["loss", "fit"]
    (failure,) = story["failures"]
    assert (failure["kind"], failure["what"]) == ("USER_BUG", "ValueError: no such <column>")
    assert "Traceback" in failure["details"]
    assert [row["how"] for row in story["lives"]] == ["finished"]
    assert {40} <= {save["step"] for save in story["saves"]} <= {10, 20, 30, 40}
    last = max(point["step"] for stretch in story["series"][0]["stretches"] for point in stretch["points"])
    assert last == 40
    logged = (folder / "logged.txt").read_text().splitlines()
    losses = [line.split()[0] for line in logged if "metrics" not in line]
    again = int(next(line for line in logged[1:] if line.startswith("begin")).split()[1])
    assert again in {0, 10, 20}
    first, second = ["5", "10", "15", "20"], [str(step) for step in range(again + 5, 41, 5)]
    assert losses == ["begin", *first, "end", "begin", *second, "end"]
    assert [line for line in logged if line.startswith("end")] == ["end failed", "end finished"]
    assert logged.count("39 metrics/fit") == 1
