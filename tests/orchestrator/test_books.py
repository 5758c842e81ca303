"""Every second is booked under one heading, and under the right one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from relight.configs.heartbeat import Beat, Phase
from relight.orchestrator.accounting.books import REGROUPED, Books, Heading
from relight.orchestrator.accounting.course import _MOST_MARKS, Course, Mark

S = 1_000_000_000


@dataclass
class Told:
    """Books that are told what happens to a launcher with one rank, in seconds of a clock that starts at 100."""

    books: Books = field(default_factory=lambda: Books(100 * S))
    at_s: float = 100.0

    def after(self, seconds: float) -> int:
        self.at_s += seconds
        return round(self.at_s * S)

    def beat(self, seconds: float, phase: Phase, step: int = -1, resumed: int = -1, stalled_s: float = 0.0) -> None:
        now_ns = self.after(seconds)
        beat = Beat(phase, step, -1, resumed, 1, now_ns, stalled_ns=round(stalled_s * S))
        self.books.observes(now_ns, {0: beat})

    def launch(self) -> None:
        """2 s until the workers are started."""
        self.books.waits(self.after(2))
        self.books.begins(self.after(0))

    def train(self, first: int, last: int, *, resumed: int = -1, stalled_s: float = 0.0) -> None:
        """A step a second; `first` is done at once."""
        for step in range(first, last + 1):
            self.beat(0 if step == first else 1, Phase.TRAINING, step, resumed, stalled_s)

    def fail(self, seconds: float, kind: str = "KILLED", backoff_s: float = 0.0) -> None:
        """After the last beat; the next attempt follows."""
        self.books.ends(self.after(seconds), failed=True)
        self.books.fails(self.after(0), kind)
        self.books.waits(self.after(0))
        self.books.begins(self.after(backoff_s))

    @property
    def seconds(self) -> dict[str, float]:
        """What is booked, without the headings that have nothing."""
        self.books.until(round(self.at_s * S))
        assert sum(self.books.booked.values()) == self.books.wall_ns == round((self.at_s - 100) * S)
        return {heading: ns / S for heading, ns in self.books.booked.items() if ns}


def test_an_undisturbed_run_is_startup_and_then_productive() -> None:
    told = Told()
    told.launch()
    told.beat(3, Phase.STARTING)
    told.beat(1, Phase.RESTORING)
    told.beat(0.5, Phase.TRAINING, 0)
    told.beat(1, Phase.TRAINING, 1)
    told.train(1, 11)
    told.beat(0, Phase.FINISHED, 11)
    told.books.ends(told.after(0.25), failed=False)
    told.books.closes(told.after(0))
    told.after(0.25)
    assert told.seconds == {"productive": 10, "restore": 0.5, "startup": 2 + 3 + 1 + 1 + 0.5}


def test_evaluation_is_productive_and_counted_besides() -> None:
    told = Told()
    told.launch()
    told.train(1, 5)
    told.beat(0, Phase.EVALUATING, 5)
    told.train(6, 6)
    told.beat(7, Phase.EVALUATING, 6)
    told.beat(2, Phase.TRAINING, 7)
    assert told.seconds["productive"] == 4 + 7 + 2
    assert told.books.evaluation_ns == 2 * S


def test_a_stall_is_as_long_as_the_rank_says() -> None:
    told = Told()
    told.launch()
    told.train(1, 5)
    told.beat(1, Phase.TRAINING, 6, stalled_s=0.25)  # A copy that was over before anybody looked.
    told.beat(0, Phase.SAVING, 6, stalled_s=0.25)
    told.beat(3, Phase.SAVING, 6, stalled_s=0.25)
    assert told.seconds == {"productive": 4.75, "staging_stall": 3.25, "startup": 2}
    told.beat(1, Phase.TRAINING, 7, stalled_s=3.5)  # It had stood still for 3.25 s of those 4.
    assert told.seconds == {"productive": 5.5, "staging_stall": 3.5, "startup": 2}


def test_a_save_that_no_later_beat_speaks_of_is_booked_by_its_phase() -> None:
    told = Told()
    told.launch()
    told.train(1, 5)
    told.beat(0, Phase.SAVING, 5)
    told.books.ends(told.after(2), failed=False)
    told.books.closes(told.after(0))
    assert told.seconds == {"productive": 4, "staging_stall": 2, "startup": 2}


def test_steps_that_are_redone_move_from_productive_to_lost() -> None:
    told = Told()
    told.launch()
    told.train(1, 11)
    told.fail(0.5)
    told.beat(1, Phase.STARTING)
    told.beat(0, Phase.RESTORING)
    told.beat(2, Phase.TRAINING, 6, resumed=6)
    told.beat(1, Phase.TRAINING, 7, resumed=6)
    told.train(7, 16, resumed=6)
    # 5 steps of a second each, and half of one that never got finished.
    assert told.seconds == {
        "productive": 5 + 9, "lost_work": 5.5, "restart": 2, "restore": 2, "startup": 2
    }  # fmt: skip
    assert told.books.steps_redone == 5
    assert told.books.lost_by_cause == {"KILLED": round((5.5 + 2 + 2) * S)}
    assert (told.books.restarts, told.books.came_back_ns) == (1, 4 * S)


def test_what_was_lost_once_is_not_lost_again() -> None:
    told = Told()
    told.launch()
    told.train(1, 11)
    for _ in range(3):
        told.fail(0)
        told.train(6, 11, resumed=5)
    # Six steps, and then five twice: the first one after a restart belongs to the restart.
    assert told.seconds == {"productive": 4 + 5, "lost_work": 6 + 5 + 5, "startup": 2}
    assert told.books.steps_redone == 18


def test_going_on_from_memory_loses_only_the_step_that_was_under_way() -> None:
    told = Told()
    told.launch()
    told.train(1, 11)
    told.fail(0.25)
    told.train(12, 12, resumed=11)
    assert told.seconds == {"productive": 10, "lost_work": 0.25, "startup": 2}
    assert told.books.steps_redone == 0


def test_a_checkpoint_from_before_this_launcher_takes_all_its_work_back() -> None:
    told = Told()
    told.launch()
    told.train(101, 111, resumed=100)
    told.fail(0)
    told.train(51, 52, resumed=50)
    assert told.seconds == {"productive": 1, "lost_work": 10, "startup": 2}
    assert told.books.resumed_step == 50


def test_back_off_is_waiting_and_no_restart() -> None:
    told = Told()
    told.launch()
    told.train(1, 2)
    told.fail(0, backoff_s=30)
    told.beat(0.5, Phase.STARTING)
    told.train(3, 4, resumed=2)
    assert told.seconds == {"productive": 2, "restart": 0.5, "startup": 2, "waiting": 30}
    assert told.books.lost_by_cause == {"KILLED": round(30.5 * S)}


def test_a_hang_costs_the_time_until_it_was_noticed_and_that_is_no_work() -> None:
    told = Told()
    told.launch()
    told.train(1, 3)
    told.beat(20, Phase.TRAINING, 3)
    told.fail(0, "HANG")
    told.beat(1, Phase.STARTING)
    told.train(4, 5, resumed=3)
    assert told.seconds == {"productive": 3, "restart": 21, "startup": 2}
    assert told.books.came_back_ns == 21 * S


def test_failures_before_the_first_step_are_one_restart_from_the_first_of_them() -> None:
    told = Told()
    told.launch()
    told.beat(1, Phase.STARTING)
    told.fail(1, "USER_BUG")
    told.beat(1, Phase.STARTING)
    told.fail(1, "STORAGE")
    told.beat(3, Phase.STARTING)
    told.train(1, 2)
    assert told.seconds == {"productive": 1, "restart": 5, "startup": 4}
    assert told.books.failures == Counter({"USER_BUG": 1, "STORAGE": 1})
    assert (told.books.restarts, told.books.came_back_ns) == (1, 5 * S)


def test_a_regroup_is_nobodys_failure_here() -> None:
    told = Told()
    told.launch()
    told.train(1, 3)
    told.books.ends(told.after(1), failed=True)
    told.books.regroups(told.after(0))
    told.books.begins(told.after(4))
    told.beat(1, Phase.STARTING)
    told.train(4, 4, resumed=3)
    assert told.seconds == {"productive": 2, "lost_work": 1, "restart": 1, "waiting": 4, "startup": 2}
    assert not told.books.failures
    assert told.books.lost_by_cause == {REGROUPED: 6 * S}


def test_workers_that_tell_nothing_and_end_well_were_at_work() -> None:
    told = Told()
    told.launch()
    told.books.observes(told.after(50), {})
    told.books.ends(told.after(10), failed=False)
    told.books.closes(told.after(1))
    assert told.seconds == {"productive": 60, "startup": 2, "waiting": 1}


def test_a_notice_takes_nothing_back() -> None:
    told = Told()
    told.launch()
    told.train(1, 3)
    told.books.ends(told.after(0.5), failed=False)
    told.books.fails(told.after(0), "PREEMPTED")
    told.books.closes(told.after(0))
    assert told.seconds == {"productive": 2.5, "startup": 2}


@given(some.lists(some.integers(0, 300), min_size=1, max_size=60, unique=True), some.integers(-5, 305))
def test_between_two_marks_work_is_in_proportion_and_never_beyond_them(steps: list[int], back: int) -> None:
    course = Course()
    for step in sorted(steps):
        course.add(Mark(step, step * 10, step))
    reached = course.back_to(back)
    assert reached == Mark(back, 10 * min(max(back, min(steps)), max(steps)), min(max(back, min(steps)), max(steps)))
    assert course.last == reached


def test_a_month_of_marks_stays_bounded_and_keeps_both_ends() -> None:
    course = Course()
    for step in range(100_000):
        course.add(Mark(step, step * 7, 0))
    assert len(course._marks) <= _MOST_MARKS
    assert course.last == Mark(99_999, 99_999 * 7, 0)
    assert course.back_to(50_000).productive_ns == 50_000 * 7


_BEATS = some.builds(
    Beat,
    phase=some.sampled_from(Phase),
    step=some.integers(-1, 40),
    committed_step=some.integers(-1, 40),
    resumed_step=some.integers(-1, 40),
    pid=some.just(1),
    at_ns=some.just(0),
    stalled_ns=some.integers(0, 20 * S),
)
_EVENTS = some.one_of(
    some.tuples(some.just("observes"), some.dictionaries(some.integers(0, 2), _BEATS, max_size=2)),
    some.tuples(some.sampled_from(["waits", "begins", "regroups", "closes"])),
    some.tuples(some.just("fails"), some.sampled_from(["KILLED", "HANG", "PREEMPTED"])),
    some.tuples(some.just("ends"), some.booleans()),
)


@given(some.lists(some.tuples(some.integers(-S, 30 * S), _EVENTS), max_size=60))
def test_whatever_happens_the_headings_add_up_to_the_wall_clock(history: list[tuple[int, Any]]) -> None:
    """Also what cannot happen, in any order, and with a clock that goes back."""
    books, now_ns, newest_ns = Books(5 * S), 5 * S, 5 * S
    for passed_ns, (what, *facts) in history:
        now_ns += passed_ns
        newest_ns = max(newest_ns, now_ns)
        if what == "ends":
            books.ends(now_ns, failed=facts[0])
        else:
            getattr(books, what)(now_ns, *facts)
        assert sum(books.booked.values()) == books.wall_ns == newest_ns - 5 * S
        assert min(books.booked.values()) >= 0
        assert 0 <= books.evaluation_ns <= books.booked[Heading.PRODUCTIVE]
        assert all(cost >= 0 for cost in books.lost_by_cause.values())
