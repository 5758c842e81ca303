"""Three hosts, one of which leaves, dies or is cut off, and is replaced, again and again: each sample is seen once."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from relight.configs.protocol import ExitCode
from relight.tests.e2e.tiny_task import SAMPLES
from relight.tests.hosts.network import Host, Network
from relight.tests.hosts.spread import EPOCH_STEPS, Spread, meeting_at, meeting_in

CHANGES = 30


@pytest.mark.needs("ip", "unshare", "root")
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("held_in", ["a file", "a host"])
def test_three_hosts_through_thirty_changes(
    hosts: Network, tmp_path: Path, tell: Callable[[str], None], held_in: str
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    tell(f"seed {seed}, the meeting is held in {held_in}")
    run = Spread(tmp_path / "run", "train.epochs=2000")
    first = hosts.host("h0")

    def start_on(host: Host) -> None:
        meeting = meeting_in(tmp_path, host) if held_in == "a file" else meeting_at(first)
        run.start_on(host, "--nnodes=2:3", *meeting)

    living = [first, hosts.host("h1"), hosts.host("h2")]
    for host in living:
        start_on(host)
    run.await_steps(10, rank=2)
    for number in range(1, CHANGES + 1):
        # The host that the meeting is held in stays.
        victim = living.pop(dice.randrange(0 if held_in == "a file" else 1, 3))
        deed = dice.choice(["leaves", "dies"] if held_in == "a file" else ["leaves", "dies", "is cut off"])
        if deed == "leaves":
            victim.started[-1].terminate()
        elif deed == "dies":
            victim.die()
        else:
            victim.cut()
        took_s = run.await_steps(5)
        tell(f"{number}: {victim.name} {deed}: {took_s:.1f} s until the others train on")
        victim.kill_all()
        living.append(hosts.host(f"h{number + 2}"))
        start_on(living[-1])
        took_s = run.await_steps(1, rank=2)
        tell(f"{number}: {living[-1].name} comes: {took_s:.1f} s from its start until all three train")
    for host in living:
        host.started[-1].terminate()
    assert {host.started[-1].wait(90) for host in living} == {ExitCode.PREEMPTED}, run.text
    seen = run.seen()
    for epoch_begins in range(1, max(seen) - EPOCH_STEPS + 1, EPOCH_STEPS):
        samples = [sample for step in range(epoch_begins, epoch_begins + EPOCH_STEPS) for sample in seen[step]]
        assert sorted(samples) == list(range(SAMPLES)), f"steps {epoch_begins} and after"
