"""A persister and the real launcher: it is not killed with its worker's group, and holds nobody up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from relight.storage import living
from relight.tests.e2e.running import Run, started
from relight.tests.processes import alive, descendants
from relight.tests.waiting import wait_until


def persisters(pid: int) -> set[int]:
    """Those of a worker."""
    return {
        child
        for child in descendants(pid)
        if b"relight.storage.persister_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    }


def test_it_outlives_its_worker_and_the_run_goes_on_without_it(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with started(run) as launcher:
        run.await_step(15)
        worker = run.pid(0)
        (orphan,) = persisters(worker)
        os.kill(orphan, signal.SIGSTOP)  # As one that has much to write.
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not alive(worker) and run.pid(0) != worker and alive(run.pid(0)), deadline_s=60)
        assert alive(orphan), "it was killed with its worker's group"
        # The other rank's has nothing to do, and goes in its time.
        wait_until(
            lambda: [each.rank for each in living.predecessors(str(run.url))] == [0], what="the orphan to be alone"
        )
        os.kill(orphan, signal.SIGCONT)
        wait_until(lambda: not alive(orphan), what="the orphan to have done and gone")
        below = descendants(launcher.pid)
        assert launcher.wait(200) == 0, run.text
    wait_until(lambda: not any(map(alive, below)), what="the last process of the run to be gone")
    assert living.everyone(str(run.url)) == []
