"""How hosts find each other, again and again: one alone, or two in one process."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest

from relight.configs.protocol import ExitCode
from relight.orchestrator.environment import Place
from relight.orchestrator.hosts.alone import Alone
from relight.orchestrator.hosts.meeting import AllFinished, Broken, Cause, Joined, Meeting, News, Refused, Rendezvous
from relight.orchestrator.hosts.rendezvous import for_meeting
from relight.orchestrator.judging.failures import Failure, FailureClass
from relight.tests.servers import free_ports
from relight.tests.waiting import wait_until


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
    port = free_ports(1)[0]
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
    port = str(free_ports(1)[0])
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
    endpoint = f"127.0.0.1:{free_ports(1)[0]}"
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
