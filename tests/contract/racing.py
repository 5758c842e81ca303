"""Many processes that do the same thing to one storage in the same moment.

`python -m relight.tests.contract.racing put URL PROCESSES ROUNDS` prints a JSON list with one list of results a round.
It is a program of its own because it forks: no thread and no backend exists before it does.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from relight.storage import generations
from relight.storage.backends.open import open_backend
from relight.storage.errors import AlreadyExists, Superseded

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    Reports = multiprocessing.SimpleQueue[tuple[int, list[Any]]]


def race(what: str, url: str, processes: int, rounds: int) -> list[list[Any]]:
    """Results by round, then by process."""
    command = [sys.executable, "-m", __name__, what, url, str(processes), str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=120, check=True)
    results: list[list[Any]] = json.loads(done.stdout)
    return results


def put(url: str, number: int, round_: int) -> bool:
    """Whether this process was the one."""
    try:
        open_backend(url).put(f"race/{round_}", bytes([number]) * 100_000)
    except AlreadyExists:
        return False
    return True


def claim(url: str, number: int, round_: int) -> int:
    """The generation that this process got; 0 when a later one was there before it could look."""
    backend = open_backend(f"{url}/{round_}")
    try:
        return generations.claim(backend, incarnation=f"launcher-{number}", resumed_from=None, host="here").number
    except Superseded:
        return 0


def _run(what: str, url: str, rounds: int, number: int, barrier: Barrier, reports: Reports) -> None:
    results: list[Any] = []
    for round_ in range(rounds):
        barrier.wait()
        results.append({"put": put, "claim": claim}[what](url, number, round_))
    reports.put((number, results))


def _main(what: str, url: str, processes: int, rounds: int) -> None:
    context = multiprocessing.get_context("fork")
    barrier, reports = context.Barrier(processes), context.SimpleQueue()
    runners = [
        context.Process(target=_run, args=(what, url, rounds, number, barrier, reports)) for number in range(processes)
    ]
    for runner in runners:
        runner.start()
    by_process = dict(reports.get() for _ in runners)
    for runner in runners:
        runner.join()
    json.dump([[by_process[number][round_] for number in range(processes)] for round_ in range(rounds)], sys.stdout)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
