"""One host, or two launchers on this machine that find each other, again and again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from relight.configs.protocol import ExitCode
from relight.orchestrator.environment import Place
from relight.orchestrator.hosts.meeting import AllFinished, Broken, Joined, Meeting, News, Refused, Rendezvous
from relight.orchestrator.hosts.rendezvous import Alone, for_meeting
from relight.tests.orchestrator.launching import SCRIPTS, beats_of, launch
from relight.tests.waiting import wait_until

TRAIN = SCRIPTS / "train.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def next_news(rendezvous: Rendezvous) -> News:
    return wait_until(rendezvous.news)[0]


def test_alone_every_attempt_gets_a_new_store() -> None:
    alone = Alone("token", 2)
    try:
        ports = []
        for attempt in (1, 2):
            alone.join(attempt)
            news = next_news(alone)
            assert isinstance(news, Joined)
            place = news.place
            assert (place.attempt, place.world_size, place.incarnation) == (attempt, 2, "token")
            assert place.ranks == range(2)
            ports.append(place.master_port)
        assert all(ports)
    finally:
        alone.close(for_all=True)


def test_a_port_that_was_asked_for_is_used_again_and_again() -> None:
    port = free_port()
    alone = Alone("token", 1, address="localhost", port=port)
    try:
        for attempt in (1, 2, 3):
            alone.join(attempt)
            news = next_news(alone)
            assert isinstance(news, Joined)
            assert (news.place.master_addr, news.place.master_port) == ("localhost", port)
    finally:
        alone.close(for_all=True)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        alone = Alone("token", 1, port=port)
        try:
            alone.join(1)
            news = next_news(alone)
            assert isinstance(news, Refused)
            assert str(news.error).startswith(f"port {port} cannot be had for the workers' store: ")
        finally:
            alone.close(for_all=True)


@pytest.mark.parametrize(
    ("meeting", "message"),
    [
        (
            Meeting("c10d", "127.0.0.1:{port}", "job", 2, 2, None, {"join_timeout": "1"}),
            "rendezvous 'job' at 127.0.0.1:{port}: 2 hosts are needed and did not come in time",
        ),
        (
            Meeting("nonsense", "127.0.0.1:{port}", "job", 1, 1),
            "rendezvous 'job' at 127.0.0.1:{port} failed: KeyError: 'nonsense'",
        ),
    ],
)
def test_hosts_that_do_not_meet_are_told_why(meeting: Meeting, message: str) -> None:
    port = str(free_port())
    endpoint = meeting.endpoint.format(port=port)
    meeting = Meeting(meeting.backend, endpoint, "job", meeting.min_nodes, meeting.max_nodes, None, meeting.conf)
    together = for_meeting(meeting, "token", 1, "", 0)
    try:
        together.join(1)
        news = next_news(together)
        assert isinstance(news, Refused)
        assert str(news.error) == message.format(port=port)
    finally:
        together.close(for_all=False)


@pytest.fixture(params=["c10d", "static"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Rendezvous, Rendezvous]]:
    """Two hosts of two and three workers that have met once."""
    endpoint = f"127.0.0.1:{free_port()}"
    confs: list[dict[str, int]] = [{"rank": rank} if request.param == "static" else {} for rank in (0, 1)]
    hosts = [
        for_meeting(Meeting(request.param, endpoint, "job", 2, 2, None, dict(conf)), f"token-{count}", count, "", 0)
        for conf, count in zip(confs, (2, 3), strict=True)
    ]
    yield hosts[0], hosts[1]
    for host in hosts:
        host.close(for_all=False)


def meet(pair: Sequence[Rendezvous], attempts: Sequence[int]) -> list[Place]:
    for host, attempt in zip(pair, attempts, strict=True):
        host.join(attempt)
    news = [next_news(host) for host in pair]
    return [each.place for each in news if isinstance(each, Joined)]


def test_hosts_agree_on_ranks_store_and_attempt(pair: tuple[Rendezvous, Rendezvous]) -> None:
    first, second = sorted(meet(pair, (1, 4)), key=lambda place: place.group_rank)
    assert (first.first_rank, second.first_rank) == (0, first.local_world_size)
    assert {len(place.ranks) for place in (first, second)} == {2, 3}
    for place in (first, second):
        assert (place.world_size, place.group_world_size) == (5, 2)
    # What names the attempt is the first host's, also for the one that has tried more often.
    assert first.incarnation == second.incarnation == f"token-{first.local_world_size}"
    assert first.attempt == second.attempt == (1 if first.local_world_size == 2 else 4)
    assert (first.master_addr, first.master_port) == (second.master_addr, second.master_port)


def test_when_one_host_fails_all_meet_again_with_a_new_store(pair: tuple[Rendezvous, Rendezvous]) -> None:
    before = meet(pair, (1, 1))
    pair[0].break_up("rank 1: killed by SIGKILL")
    assert next_news(pair[1]) == Broken(f"{socket.gethostname()}: rank 1: killed by SIGKILL")
    after = meet(pair, (2, 2))
    assert {place.attempt for place in after} == {2}
    assert len({place.master_port for place in before + after}) == 2


def test_all_have_finished_when_the_last_one_has(pair: tuple[Rendezvous, Rendezvous]) -> None:
    meet(pair, (1, 1))
    pair[1].finish()
    pair[0].finish()
    assert [next_news(host) for host in pair] == [AllFinished()] * 2


def test_who_has_finished_comes_back_when_another_fails(pair: tuple[Rendezvous, Rendezvous]) -> None:
    meet(pair, (1, 1))
    pair[1].finish()
    pair[0].break_up("rank 0: exit code 1")
    assert next_news(pair[1]) == Broken(f"{socket.gethostname()}: rank 0: exit code 1")


@pytest.mark.parametrize("pair", ["c10d"], indirect=True)
def test_a_host_that_ends_the_run_ends_it_for_all(pair: tuple[Rendezvous, Rendezvous]) -> None:
    meet(pair, (1, 1))
    pair[0].close(for_all=True)
    pair[1].join(2)
    news = next_news(pair[1])
    assert isinstance(news, Refused)
    assert str(news.error).endswith(" is closed: another host has ended this run")


def both(stack: ExitStack, flags: Sequence[Sequence[str]], folder: Path) -> list[subprocess.Popen[str]]:
    common = (TRAIN, folder / "state", folder / "stop")
    return [stack.enter_context(launch("--nnodes=2", *each, *common)) for each in flags]


@pytest.mark.parametrize("kind", ["c10d", "static"])
def test_who_waits_for_the_other_host_can_be_stopped(kind: str, tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        (launcher,) = both(stack, flags_of(kind, port)[:1], tmp_path)
        wait_until(lambda: is_served(port), deadline_s=90)
        launcher.send_signal(signal.SIGTERM)
        _, told = launcher.communicate(timeout=30)
    assert (launcher.returncode, told) == (
        ExitCode.PREEMPTED,
        "relight: stopped by SIGTERM while no worker was running: run the same command again\n",
    )


def is_served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def flags_of(kind: str, port: int) -> list[list[str]]:
    if kind == "c10d":
        return [["--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=pair"]] * 2
    return [["--node-rank", str(rank), "--master-addr", "127.0.0.1", f"--master-port={port}"] for rank in (0, 1)]


def rank_pids(launchers: Sequence[subprocess.Popen[str]], attempt: int) -> list[int]:
    """Two launchers with one worker each: either may have become the first."""

    def training() -> list[int]:
        found = []
        for launcher in launchers:
            assert launcher.poll() is None, launcher.communicate()
            for rank in (0, 1):
                found += [beat.pid for beat in beats_of(launcher, attempt, (rank,))]
        return found if len(found) == len(launchers) else []

    return wait_until(training, deadline_s=120, what=f"two hosts to train in attempt {attempt}")


@pytest.mark.parametrize("kind", ["c10d", "static"])
def test_two_hosts_come_back_together_after_a_kill(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        launchers = both(stack, flags_of(kind, free_port()), tmp_path)
        pids = rank_pids(launchers, attempt=1)
        os.kill(pids[1], signal.SIGKILL)
        rank_pids(launchers, attempt=2)
        (tmp_path / "stop").touch()
        told = [launcher.communicate(timeout=90)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [ExitCode.FINISHED] * 2
    assert "was killed by SIGKILL at step" in told[1]
    # The other host hears of it from its own worker or from the rendezvous, whichever is first.
    assert "restarting (attempt 2)" in told[0] or "starting again together: " in told[0]
