"""The S3 server is killed in mid-save and comes back: training goes on, and what was acknowledged is there."""

from __future__ import annotations

import random
import re
import signal
import time
import uuid
from pathlib import Path
from typing import Final

import pytest

from relight.configs.protocol import ExitCode
from relight.storage.backends.base import Backend
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog, Standing
from relight.storage.digest import digest
from relight.storage.verify import verify
from relight.tests.e2e.mortal import MortalServer, Trap
from relight.tests.e2e.running import started
from relight.tests.e2e.watched import Watched
from relight.tests.proxy import Proxy, proxied
from relight.tests.servers import CREDENTIALS, environment
from relight.tests.waiting import wait_until

pytestmark = pytest.mark.needs("weed")

KEEP_LAST: Final = 3
SAVE_EVERY: Final = 10
SETTINGS: Final = (
    "task=paced_task:Paced",
    "task_args.width=4000",
    "data.num_workers=0",
    f"checkpoint.every={SAVE_EVERY}",
    f"checkpoint.keep_last={KEEP_LAST}",
    "checkpoint.max_failed_saves=1000",
    "checkpoint.when_busy=defer",  # Else a step would wait for the server.
    "train.epochs=100000",  # It ends when it is told to.
)
LONG: Final = 5
"""Every fifth death lasts until a save has failed, where there are so many. Else an operation insists, by
`Patience()`, 12 times in 27 to 53 s, which is longer than the server is away: the save comes through."""


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param(2, id="2 deaths"),
        pytest.param(20, id="20 deaths", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_a_server_killed_in_mid_save_stops_no_training_and_loses_nothing_acknowledged(
    folder: Path, deaths: int, dice: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    mortal = MortalServer(folder / "server")
    try:
        with environment(CREDENTIALS), proxied(mortal.server.endpoint_url) as proxy:
            prefix = f"{uuid.uuid4().hex}/run"
            url = mortal.server.place(prefix, proxy.endpoint_url).url
            run = Watched(folder / "killed", *SETTINGS, f"storage.url={url}")
            run.address = url
            backend = mortal.server.backend(prefix)
            with started(run) as process:
                witnesses = Witnesses(run, mortal, backend, dice)
                proxy.choose = witnesses.trap.choose
                for number in range(1, deaths + 1):
                    line = witnesses.live_through_a_death(long=number % LONG == 0)
                    with capsys.disabled():
                        print(f"{number}: {line}")
                process.send_signal(signal.SIGTERM)
                assert process.wait(300) == ExitCode.PREEMPTED, run.text
            assert "restarting" not in run.text
            assert "resumed from" not in run.text
            last, proof = newest(backend)
    finally:
        mortal.close()
    begun, concluded = (_attempts(proxy, name) for name in ("rank-00000-of-", "manifest.json"))
    failed = set(run.failed_saves())
    with capsys.disabled():
        print(f"{deaths} deaths in mid-save: {len(begun)} saves begun, {len(concluded - failed)} committed,")
        print(
            f"{len(failed)} failed, 0 acknowledged lost; {witnesses.steps_without} steps done while the server was down"
        )
    assert last == run.steps_done()
    reference = Watched(folder / "undisturbed", *SETTINGS)
    reference.finish_at(last)
    assert newest(open_backend(reference.address)) == (last, proof)
    for rank in range(run.ranks):
        assert run.losses(rank) == reference.losses(rank)
        assert len(run._lines(f"trace-{rank}.jsonl")) == last, "a step was done twice"


class Witnesses:
    """What is seen of one run on one server, from the first death to the last."""

    def __init__(self, run: Watched, mortal: MortalServer, backend: Backend, dice: random.Random) -> None:
        self._run = run
        self._mortal = mortal
        self._backend = backend
        self._dice = dice
        self.trap = Trap(mortal.kill, run.beat, dice)
        self.steps_without = 0
        """Done while there was no server."""

    def live_through_a_death(self, *, long: bool) -> str:
        """A line about it."""
        wait_until(self._has_committed, deadline_s=120, what="the first commit")
        run, pids, failures = self._run, self._run.pids(), len(self._run.failed_saves())
        self.trap.arm()
        death = wait_until(lambda: self.trap.death, deadline_s=60, what="a save to be hit")
        assert self._mortal.server.process.wait(10) == -signal.SIGKILL
        first, began = run.beat().step, time.monotonic()
        enough = first + self._dice.randint(5, 30)
        wait_until(lambda: run.beat().step >= enough, deadline_s=30, what=f"step {enough} without a server")
        if long:
            wait_until(lambda: len(run.failed_saves()) > failures, deadline_s=300, what="a save to fail")
        without, away_s = run.beat().step - first, time.monotonic() - began
        self._mortal.come_back()
        kept = proven(self._backend)
        acknowledged = death.witnessed.committed_step
        newer = [step for step in kept if step > acknowledged]
        assert acknowledged in kept or len(newer) >= KEEP_LAST, f"step {acknowledged} is lost; there are {kept}"
        now = run.beat().step
        wait_until(lambda: run.beat().committed_step > now, deadline_s=120, what="saves to come through again")
        assert run.pids() == pids, "a worker was started anew"
        self.steps_without += without
        return (
            f"killed at {death.request}, away for {away_s:.1f} s in which {without} steps were done; "
            f"{acknowledged} acknowledged, {kept} proven"
        )

    def _has_committed(self) -> bool:
        beat = self._run.first_beat()
        return beat is not None and beat.committed_step > 0


def newest(backend: Backend) -> tuple[int, str]:
    """Step and digest of the newest checkpoint, every byte of which was read."""
    manifest = Catalog(backend).find().manifest
    assert verify(backend, manifest) == []
    return manifest.step, digest(backend, manifest)


def proven(backend: Backend) -> list[int]:
    """Steps of the committed checkpoints, every byte of which was read. The run may let one go meanwhile."""
    steps = []
    for checkpoint in Catalog(backend).committed():
        damage = verify(backend, checkpoint.manifest)
        if damage:
            left = [each.standing for each in Catalog(backend).listing() if each.id == checkpoint.id]
            assert left in ([], [Standing.UNFINISHED]), f"{checkpoint.id.name}: {damage}"
        else:
            steps.append(checkpoint.step)
    return steps


def _attempts(proxy: Proxy, name: str) -> set[int]:
    """The steps for which a file of that name was put."""
    puts = (re.search(rf"^PUT .*/step-(\d+)-[^/]*/{name}", request) for request in proxy.requests)
    return {int(put.group(1)) for put in puts if put}
