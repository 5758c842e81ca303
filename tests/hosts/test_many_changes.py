"""Three hosts, of which one leaves, dies or is cut off, and is replaced, again and again: each sample is seen once."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from relight.configs.protocol import ExitCode
from relight.tests.e2e.tiny_task import SAMPLES
from relight.tests.hosts.network import Host, Network
from relight.tests.hosts.spread import EPOCH_STEPS, Spread, meeting_at, meeting_in

CHANGES: Final = 30
LEAVES, DIES, IS_CUT_OFF, TAKES_THE_MEETING = "leaves", "dies", "is cut off", "dies, and the meeting with it"
DEEDS: Final = {
    # A host that is cut off still reaches the file, so that nobody can tell.
    "a file": (LEAVES, DIES),
    "a host": (LEAVES, DIES, IS_CUT_OFF, TAKES_THE_MEETING),
}

Tell = Callable[[str], None]


def deeds_of(held_in: str, dice: random.Random) -> list[str]:
    """Each one that there is at least once, in any order."""
    kinds = DEEDS[held_in]
    drawn = [*kinds, *dice.choices(kinds, k=CHANGES - len(kinds))]
    dice.shuffle(drawn)
    return drawn


class Cluster:
    """Three hosts that train together, all of them between one change and the next."""

    def __init__(self, network: Network, run: Spread, held_in: str, dice: random.Random) -> None:
        self._network = network
        self._run = run
        self._in_file = held_in == "a file"
        self._dice = dice
        self.living = [network.host(f"h{number}") for number in range(3)]
        self._first = self.living[0]
        for host in self.living:
            self._start_on(host)
        run.await_steps(10, rank=2)

    def change(self, deed: str) -> tuple[str, float, float]:
        """Whom it befell, the seconds until the others train on, and those until all three train again.

        Where the others cannot train on the first is the time until they know it.
        """
        if deed == TAKES_THE_MEETING:
            return self._first.name, self._first_dies(), self._comes(self._first)
        # The host that the meeting is held in is not replaced by another.
        victim = self.living.pop(self._dice.randrange(0 if self._in_file else 1, 3))
        {LEAVES: self._leaves, DIES: Host.die, IS_CUT_OFF: Host.cut}[deed](victim)
        alone_s = self._run.await_steps(5)
        victim.kill_all()
        self.living.append(self._network.host(f"h{len(self._network.hosts)}"))
        return victim.name, alone_s, self._comes(self.living[-1])

    def preempted(self) -> set[int]:
        """Their exit codes, after all were told to stop."""
        for host in self.living:
            host.started[-1].terminate()
        return {host.started[-1].wait(90) for host in self.living}

    def _leaves(self, host: Host) -> None:
        host.started[-1].terminate()

    def _first_dies(self) -> float:
        others = [(host, len(self._run.said_on(host))) for host in self.living if host is not self._first]
        self._first.die()
        known_s = self._run.await_here(
            lambda: all(" is lost; it is tried again for " in self._run.said_on(host)[said:] for host, said in others),
            "the others know that the meeting is lost",
        )
        self._first.heal()
        return known_s

    def _comes(self, host: Host) -> float:
        self._start_on(host)
        return self._run.await_steps(1, rank=2)

    def _start_on(self, host: Host) -> None:
        meeting = meeting_in(self._run.folder, host) if self._in_file else meeting_at(self._first)
        self._run.start_on(host, "--nnodes=2:3", *meeting)


@pytest.mark.parametrize("held_in", DEEDS)
def test_thirty_changes_leave_nothing_out(held_in: str) -> None:
    for seed in range(100):
        drawn = deeds_of(held_in, random.Random(seed))
        assert (len(drawn), set(drawn)) == (CHANGES, set(DEEDS[held_in]))


@pytest.mark.needs("ip", "unshare", "root")
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("held_in", DEEDS)
def test_three_hosts_through_thirty_changes(
    hosts: Network, tmp_path: Path, undisturbed: Spread, tell: Tell, held_in: str
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    tell(f"seed {seed}, the meeting is held in {held_in}")
    dice = random.Random(seed)
    run = Spread(tmp_path / "run", "train.epochs=2000")
    cluster, took_s = Cluster(hosts, run, held_in, dice), defaultdict(list)
    for number, deed in enumerate(deeds_of(held_in, dice), 1):
        name, alone_s, together_s = cluster.change(deed)
        took_s[deed].append(alone_s)
        took_s["comes"].append(together_s)
        tell(f"{number}: {name} {deed}: {alone_s:.1f} s; one comes: {together_s:.1f} s until all three train")
    assert cluster.preempted() == {ExitCode.PREEMPTED}, run.text
    tell("\n".join(f"{len(each)} x {deed}: {median(each):.1f} s, {max(each):.1f} s" for deed, each in took_s.items()))
    assert_each_sample_was_seen_once(run, undisturbed)
    verified = run.relight("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def assert_each_sample_was_seen_once(run: Spread, undisturbed: Spread) -> None:
    """In every epoch, and at the step at which a run that nothing befalls sees it."""
    seen = run.seen()
    for epoch_begins in range(1, max(seen) - EPOCH_STEPS + 1, EPOCH_STEPS):
        samples = [sample for step in range(epoch_begins, epoch_begins + EPOCH_STEPS) for sample in seen[step]]
        assert sorted(samples) == list(range(SAMPLES)), f"steps {epoch_begins} and after"
    wanted = undisturbed.seen()
    assert {step: seen[step] for step in wanted if step in seen} == {
        step: wanted[step] for step in wanted if step in seen
    }
