"""How long a rank may be silent: learned, declared, and never less than what was waited for once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from relight.configs.heartbeat import Beat, Phase
from relight.configs.schema import HangConfig
from relight.orchestrator.judging.patience import Patience

S = 1_000_000_000
RANKS = (0, 1)


def beat(at_s: float, step: int = 0, *, phase: Phase = Phase.TRAINING, allowance_s: float = 0.0, pid: int = 1) -> Beat:
    return Beat(phase, step, -1, -1, pid, int(at_s * S), allowance_s)


class World:
    """Two ranks that step together, and a launcher that looks after each step."""

    def __init__(self, **settings: Any) -> None:
        self.patience = Patience(HangConfig(**settings))
        self.now_s = 1000.0
        self.step = 0
        self.patience.restart(int(self.now_s * S))
        self.beats = {rank: beat(self.now_s) for rank in RANKS}
        self.patience.learn(self.beats)

    def steps(self, durations: Sequence[float]) -> None:
        for duration in durations:
            self.now_s += duration
            self.step += 1
            self.beats = {rank: beat(self.now_s, self.step) for rank in RANKS}
            self.patience.learn(self.beats)

    def beats_differently(self, rank: int, **changes: Any) -> None:
        self.beats[rank] = replace(self.beats[rank], **changes)
        self.patience.learn(self.beats)

    def is_overdue(self, after_s: float, *, stopped: Sequence[int] = (), ranks: Sequence[int] = RANKS) -> bool:
        now_ns = int((self.now_s + after_s) * S)
        return self.patience.overdue(ranks, self.beats, now_ns, stopped) is not None

    def limit_s(self) -> float:
        """By bisection: what it takes to be overdue. It is looked at a moment earlier, for that takes time."""
        low, high = 0.0, 1e6
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if self.is_overdue(middle) else (middle, high)
        return high + 0.1


@pytest.mark.parametrize(
    ("durations", "limit_s"),
    [
        ([0.01] * 50, 5.0),  # The floor.
        ([2.0] * 50, 6.0),  # Three times the p99.
        ([2.0] * 200 + [3.0] * 3, 9.0),
        ([2.0] * 500 + [10.0] + [2.0] * 200, 15.0),  # One long one is no p99, but it was waited for once.
        ([100.0] + [1.0] * 1000, 5.0),  # Long ago.
    ],
)
def test_the_limit_is_learned_from_the_steps(durations: list[float], limit_s: float) -> None:
    world = World()
    world.steps(durations)
    assert world.limit_s() == pytest.approx(limit_s, abs=0.01)


def test_before_anything_is_known_a_step_may_take_what_the_start_may_take() -> None:
    world = World(start_s=100.0)
    world.steps([1.0, 1.0])
    assert world.limit_s() == pytest.approx(100.0)
    world.steps([1.0])
    assert world.limit_s() == pytest.approx(5.0)


@pytest.mark.parametrize(("took_s", "limit_s"), [(0.5, 5.0), (20.0, 60.0), (90.0, 100.0)])
def test_after_its_first_steps_a_run_may_take_three_times_as_long_as_for_them(took_s: float, limit_s: float) -> None:
    world = World(start_s=100.0)
    for rank in RANKS:
        world.beats_differently(rank, allowance_s=100.0)
    world.steps([took_s])
    assert world.limit_s() == pytest.approx(limit_s)


def test_a_time_that_was_given_is_the_limit() -> None:
    world = World(timeout=30)
    assert world.limit_s() == pytest.approx(30.0)
    world.steps([20.0] * 10)
    world.patience.hung(10)
    assert world.limit_s() == pytest.approx(30.0)


def test_never_is_never() -> None:
    world = World(timeout="never")
    world.steps([0.1] * 100)
    assert not world.is_overdue(1e9)
    assert world.patience.silent(RANKS, world.beats, int(1e9 * S)) == []


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RESTORING, Phase.EVALUATING, Phase.SAVING, Phase.TRAINING])
def test_what_a_rank_declares_it_is_allowed(phase: Phase) -> None:
    world = World()
    world.steps([0.1] * 100)
    for rank in RANKS:
        world.beats_differently(rank, phase=phase, allowance_s=60.0)
    assert world.limit_s() == pytest.approx(60.0)


def test_while_one_does_what_it_has_declared_the_others_may_wait_for_it() -> None:
    world = World()
    world.steps([0.1] * 100)
    world.beats_differently(1, allowance_s=60.0)
    assert not world.is_overdue(59.0)
    assert world.is_overdue(61.0)


def test_a_declared_time_shorter_than_a_step_takes_nothing_away() -> None:
    world = World()
    world.steps([10.0] * 10)
    for rank in RANKS:
        world.beats_differently(rank, allowance_s=1.0)
    assert world.limit_s() == pytest.approx(30.0)


def test_a_stopped_process_does_nothing_of_what_it_has_declared() -> None:
    world = World()
    world.steps([0.1] * 100)
    world.beats_differently(0, phase=Phase.EVALUATING, allowance_s=3600.0)
    world.beats_differently(1, phase=Phase.EVALUATING, allowance_s=3600.0)
    assert world.patience.silent(RANKS, world.beats, int((world.now_s + 5.1) * S)) == [0, 1]
    assert not world.is_overdue(4.8, stopped=[1])
    assert world.is_overdue(5.1, stopped=[1])
    assert not world.is_overdue(5.1)


def test_what_was_declared_is_not_learned_from() -> None:
    world = World()
    world.steps([0.1] * 10)
    for rank in RANKS:
        world.beats_differently(rank, phase=Phase.EVALUATING, allowance_s=3600.0)
    world.steps([900.0])
    world.steps([0.1] * 10)
    assert world.limit_s() == pytest.approx(5.0)


def test_evaluating_without_a_word_about_its_length_is_not_judged() -> None:
    world = World()
    world.steps([0.1] * 10)
    for rank in RANKS:
        world.beats_differently(rank, phase=Phase.EVALUATING)
    assert not world.is_overdue(1e6)


def test_a_rank_that_has_never_beaten_is_waited_for_as_long_as_a_start_may_take() -> None:
    world = World(start_s=100.0)
    world.steps([0.1] * 10)
    del world.beats[1]
    assert not world.is_overdue(98.0)
    assert world.is_overdue(100.0)


def test_programs_that_never_beat_are_never_judged() -> None:
    world = World(start_s=100.0)
    world.beats = {}
    assert not world.is_overdue(1e6)


def test_who_is_no_more_in_question_is_not_judged() -> None:
    world = World()
    world.steps([0.1] * 10)
    world.beats[0] = beat(world.now_s + 9.0)
    assert world.is_overdue(10.0)
    assert not world.is_overdue(10.0, ranks=[0])


def test_after_a_hang_the_limit_grows_until_that_step_is_passed() -> None:
    world = World()
    world.steps([0.1] * 20)
    limits = []
    for _ in range(3):
        world.patience.hung(world.step)
        world.patience.restart(int(world.now_s * S))
        world.step -= 10  # Gone on from a checkpoint.
        world.steps([0.1] * 10)
        limits.append(world.limit_s())
    assert limits == pytest.approx([20.0, 80.0, 320.0])
    world.steps([0.1])
    assert world.limit_s() == pytest.approx(5.0)


def test_a_step_that_is_merely_slow_passes_in_the_end_and_is_then_known() -> None:
    world = World()
    world.steps([0.1] * 200)
    hangs = 0
    while world.is_overdue(60.0):
        world.patience.hung(world.step)
        hangs += 1
    assert hangs == 2
    world.steps([60.0, 0.1])
    assert world.limit_s() == pytest.approx(90.0)


def test_after_a_sleep_of_ours_the_patience_starts_anew() -> None:
    world = World()
    world.steps([0.1] * 20)
    world.now_s += 500.0  # Nobody ran: a laptop's lid, a SIGSTOP of us all.
    world.patience.restart(int(world.now_s * S))
    assert world.limit_s() == pytest.approx(5.0)
    world.steps([0.1] * 3)
    assert world.limit_s() == pytest.approx(5.0), "the sleep was learned"


def test_many_steps_between_two_looks_make_nobody_impatient() -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    world = World(floor_s=0.001)
    longest = 0.0
    for _ in range(300):
        durations = [chance.uniform(0.01, 0.2) for _ in range(chance.randrange(1, 30))]
        longest = max(longest, *durations)
        world.now_s += sum(durations)
        world.step += len(durations)
        world.beats = {rank: beat(world.now_s, world.step) for rank in RANKS}
        world.patience.learn(world.beats)
    assert world.limit_s() >= 3 * longest, f"seed {seed}"


def test_another_process_of_a_rank_has_no_silence_before_its_first_beat() -> None:
    world = World()
    world.steps([0.1] * 10)
    world.now_s += 100.0
    world.beats = {rank: beat(world.now_s, 3, pid=2) for rank in RANKS}
    world.patience.learn(world.beats)
    assert world.limit_s() == pytest.approx(5.0)


def test_it_is_known_when_a_look_is_worth_while() -> None:
    world = World()
    world.steps([0.1] * 10)
    assert world.patience.due_in_s(RANKS, world.beats, int((world.now_s + 4.0) * S)) == pytest.approx(0.9)
    assert world.patience.due_in_s(RANKS, world.beats, int((world.now_s + 6.0) * S)) == float("inf")


def test_what_steps_took_on_more_ranks_says_nothing_about_fewer() -> None:
    """Each does more of a batch then: a step of four times the length is no hang."""
    world = World(floor_s=1.0)
    world.patience.begin(8)
    world.steps([1.0] * 20)
    assert world.is_overdue(4.0)
    world.patience.begin(8)
    assert world.is_overdue(4.0)
    world.patience.begin(2)
    assert not world.is_overdue(4.0)
