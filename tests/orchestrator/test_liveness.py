"""Who is silent, judged by counters and by nobody's clock but our own."""

from __future__ import annotations

from relight.orchestrator.hosts.liveness import BEAT_EVERY_S, GONE, SILENT_S, Liveness


def after_seconds_of(liveness: Liveness, seconds: int, *, beating: tuple[int, ...], start_s: float = 0.0) -> float:
    """Look once a second; the time after it."""
    for second in range(1, seconds + 1):
        counts = {host: f"{start_s + second if host in beating else 'still'}" for host in liveness.hosts}
        liveness.hear(counts, start_s + second)
    return start_s + seconds


def test_a_host_that_beats_is_alive_and_one_that_does_not_is_lost() -> None:
    liveness = Liveness([1, 2], 0.0)
    now_s = after_seconds_of(liveness, int(SILENT_S), beating=(1,))
    assert liveness.silent(now_s) == {}
    now_s = after_seconds_of(liveness, 2, beating=(1,), start_s=now_s)
    assert list(liveness.silent(now_s)) == [2]
    assert liveness.silent(now_s)[2] > SILENT_S


def test_a_lost_host_is_noticed_within_ten_seconds_whenever_it_beat_last() -> None:
    assert SILENT_S + 2 * BEAT_EVERY_S < 10


def test_an_observer_that_did_not_look_accuses_nobody() -> None:
    liveness = Liveness([1], 0.0)
    now_s = after_seconds_of(liveness, 3, beating=(1,))
    liveness.hear({1: f"{now_s}"}, now_s + 3600)  # The same counter: was it silent, or we asleep?
    assert liveness.silent(now_s + 3600) == {}
    after = after_seconds_of(liveness, int(SILENT_S) + 2, beating=(), start_s=now_s + 3600)
    assert list(liveness.silent(after)) == [1]


def test_a_host_that_has_said_goodbye_is_not_missed() -> None:
    liveness = Liveness([1], 0.0)
    for second in range(1, 60):
        liveness.hear({1: GONE}, float(second))
        assert liveness.silent(float(second)) == {}


def test_all_are_heard_since_a_moment_when_each_counter_has_moved_on_after_it() -> None:
    liveness = Liveness([1, 2], 0.0)
    liveness.hear({1: "1", 2: "1"}, 1.0)
    liveness.hear({1: "2", 2: "1"}, 2.0)
    assert liveness.all_heard_since(1.0)
    assert not liveness.all_heard_since(2.0)
    assert Liveness([], 0.0).all_heard_since(1e9), "a host that is alone waits for nobody"
