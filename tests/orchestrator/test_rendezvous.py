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
from relight.orchestrator.hosts.alone import Alone
from relight.orchestrator.hosts.meeting import AllFinished, Broken, Cause, Joined, Meeting, News, Refused, Rendezvous
from relight.orchestrator.hosts.rendezvous import for_meeting
from relight.orchestrator.judging.failures import Failure, FailureClass
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
        alone.close(ExitCode.GAVE_UP)


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
        alone.close(ExitCode.GAVE_UP)


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
            alone.close(ExitCode.GAVE_UP)


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
        together.close()


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
        host.close()


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
    assert first.incarnation == second.incarnation == f"token-{first.local_world_size}"
    assert first.attempt == second.attempt == 4, "that of the one that has tried more often"
    assert (first.master_addr, first.master_port) == (second.master_addr, second.master_port)


def broken(rendezvous: Rendezvous) -> Broken:
    news = next_news(rendezvous)
    assert isinstance(news, Broken), news
    return news


KILLED = Failure(FailureClass.KILLED, 1, "killed by SIGKILL", step=7, beside=("rank 0: gone",), signal_name="SIGKILL")
TORN = Failure(FailureClass.COMMUNICATION, 0, "RuntimeError: connection closed by peer")
TOLD = Failure(FailureClass.PREEMPTED, 0, "told to stop")


def test_when_one_host_fails_all_meet_again_with_a_new_store(pair: tuple[Rendezvous, Rendezvous]) -> None:
    before = meet(pair, (1, 1))
    pair[0].accuse(KILLED)
    assert broken(pair[0]).ours
    theirs = broken(pair[1])
    assert str(theirs) == f"{socket.gethostname()}: rank 1: killed by SIGKILL"
    assert (theirs.cause, theirs.failure, theirs.ours, theirs.gentle) == (Cause.FAILED, KILLED, False, False)
    after = meet(pair, (2, 2))
    assert {place.attempt for place in after} == {2}
    assert {place.incarnation for place in after} == {place.incarnation for place in before}
    assert len({place.master_port for place in before + after}) == 2


def test_the_first_cause_is_that_of_the_host_that_failed_and_not_of_the_one_that_saw_it_first(
    pair: tuple[Rendezvous, Rendezvous],
) -> None:
    meet(pair, (1, 1))
    pair[1].accuse(TORN)
    pair[0].accuse(KILLED)
    assert [(each.failure, each.ours) for each in map(broken, pair)] == [(KILLED, True), (KILLED, False)]


def test_a_torn_connection_is_the_cause_when_no_host_knows_better(pair: tuple[Rendezvous, Rendezvous]) -> None:
    meet(pair, (1, 1))
    pair[1].accuse(TORN)
    assert [(each.failure, each.ours) for each in map(broken, pair)] == [(TORN, False), (TORN, True)]


@pytest.mark.parametrize("pair", ["c10d"], indirect=True)
def test_a_host_that_was_told_to_stop_asks_the_others_to_save_and_go_on_without_it(
    pair: tuple[Rendezvous, Rendezvous],
) -> None:
    meet(pair, (1, 1))
    pair[0].leave("stopped by SIGTERM")
    asked = broken(pair[1])
    assert (asked.cause, asked.reason, asked.gentle) == (Cause.LEFT, "stopped by SIGTERM", True)
    pair[1].accuse(TOLD)  # Its workers have saved, and do not know why.
    assert broken(pair[1]) == asked


@pytest.mark.parametrize("pair", ["static"], indirect=True)
def test_where_nobody_can_come_in_later_all_end_when_one_is_told_to(pair: tuple[Rendezvous, Rendezvous]) -> None:
    meet(pair, (1, 1))
    pair[0].leave("stopped by SIGTERM")
    pair[1].accuse(TOLD)
    assert broken(pair[1]).ours


def test_after_an_asked_for_end_a_failure_is_still_heard_of(pair: tuple[Rendezvous, Rendezvous]) -> None:
    meet(pair, (1, 1))
    pair[0].leave("stopped by SIGTERM")
    pair[1].accuse(KILLED)
    heard = [news for news in (broken(pair[0]), broken(pair[1])) if not news.gentle]
    while len(heard) < 2:
        heard += [news for host in pair for news in host.news() if isinstance(news, Broken) and not news.gentle]
    assert {news.failure for news in heard} == {KILLED}


def test_all_have_finished_when_the_last_one_has(pair: tuple[Rendezvous, Rendezvous]) -> None:
    meet(pair, (1, 1))
    pair[1].finish()
    pair[0].finish()
    assert [next_news(host) for host in pair] == [AllFinished()] * 2


def test_who_has_finished_comes_back_when_another_fails(pair: tuple[Rendezvous, Rendezvous]) -> None:
    meet(pair, (1, 1))
    pair[1].finish()
    pair[0].accuse(KILLED)
    assert broken(pair[1]).failure == KILLED


@pytest.mark.parametrize("pair", ["c10d"], indirect=True)
def test_a_host_that_ends_the_run_ends_it_for_all(pair: tuple[Rendezvous, Rendezvous]) -> None:
    meet(pair, (1, 1))
    pair[1].join(2)
    pair[0].close(ExitCode.GAVE_UP)
    news = next_news(pair[1])
    assert isinstance(news, Refused)
    assert str(news.error) == f"{socket.gethostname()} has ended the run, with exit code 70"
    assert news.error.exit_code == ExitCode.GAVE_UP


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


def test_a_bug_on_one_host_is_told_there_and_ends_all_hosts_in_the_same_way() -> None:
    verdicts = (SCRIPTS / "exits.py", "wait", "raise")
    with ExitStack() as stack:
        launchers = [
            stack.enter_context(launch("--nnodes=2", *flags, *verdicts)) for flags in flags_of("c10d", free_port())
        ]
        told = [launcher.communicate(timeout=120)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [ExitCode.GAVE_UP] * 2
    one, other = sorted(told, key=lambda text: "Traceback" in text)
    assert other.count("Traceback") == 1
    assert "stopped with exit code 70: the same error at the same step again" in other
    host = socket.gethostname()
    assert one.splitlines()[-2:] == [
        f"relight: starting again together: {host}: rank 1: ValueError: raise",
        f"relight: {host} has ended the run, with exit code 70",
    ]
