"""Which checkpoints may go: each rule as a table, and what holds for all of them together."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.storage.backends.local import LocalBackend
from relight.storage.layout import AttemptId
from relight.storage.manifest import Progress
from relight.storage.persister import ThreadPersister
from relight.storage.retention import Best, Candidate, Rules, doomed
from relight.storage.sweep import maintain
from relight.tests.storage.checkpoints import attempt_id, job, save, shard, steps
from relight.tests.storage.staging import Stage
from relight.tests.storage.test_documents import manifest

NAN = math.nan


def kept(candidates: list[Candidate], rules: Rules, *protected: int) -> list[int]:
    going = doomed(candidates, rules, protected=[attempt_id(step) for step in protected])
    return sorted(candidate.id.step for candidate in candidates if candidate.id not in going)


def at(*committed: int) -> list[Candidate]:
    return [Candidate(attempt_id(step)) for step in committed]


def saved_at(times: dict[int, float | None]) -> list[Candidate]:
    return [Candidate(attempt_id(step), time) for step, time in times.items()]


def measured(values: dict[int, float | None], name: str = "accuracy") -> list[Candidate]:
    return [Candidate(attempt_id(step), None, {} if value is None else {name: value}) for step, value in values.items()]


@pytest.mark.parametrize(
    ("committed", "keep_last", "protected", "staying"),
    [
        ([], 1, [], []),
        ([10], 1, [], [10]),
        ([30, 10, 20], 1, [], [30]),
        ([30, 10, 20], 2, [], [20, 30]),
        ([30, 10, 20], 3, [], [10, 20, 30]),
        ([30, 10, 20], 9, [], [10, 20, 30]),
        ([30, 10, 20], 1, [10], [10, 30]),
        ([30, 10, 20], 1, [10, 20], [10, 20, 30]),
        ([100, 20, 3], 1, [], [100]),
    ],
)
def test_the_newest_and_the_protected_stay(
    committed: list[int], keep_last: int, protected: list[int], staying: list[int]
) -> None:
    assert kept(at(*committed), Rules(keep_last=keep_last), *protected) == staying


@pytest.mark.parametrize(
    ("committed", "every", "staying"),
    [
        ([50, 100, 150, 200, 250], 100, [100, 200, 250]),
        ([30, 70, 110, 150, 190, 230], 100, [110, 230]),  # Not on the multiples: the first past each.
        ([99, 100, 101], 100, [100, 101]),
        ([10, 1000, 1001], 100, [1000, 1001]),
        ([1, 2, 3], 1, [1, 2, 3]),
        ([0, 5, 6], 5, [5, 6]),
    ],
)
def test_one_in_so_many_steps_stays(committed: list[int], every: int, staying: list[int]) -> None:
    assert kept(at(*committed), Rules(keep_last=1, every_steps=every)) == staying


@pytest.mark.parametrize(
    ("times", "staying"),
    [
        ({1: 0, 2: 30, 3: 60, 4: 90, 5: 120, 6: 130}, [1, 3, 5, 6]),
        ({1: 0, 2: 59, 3: 61, 4: 119, 5: 125, 6: 126}, [1, 3, 5, 6]),
        ({1: 1000, 2: 0, 3: 10, 4: 61, 5: 62}, [1, 2, 4, 5]),  # The clock was set back: more is kept, not less.
        ({1: None, 2: 0, 3: None, 4: 10, 5: 20}, [1, 2, 3, 5]),
    ],
)
def test_one_in_so_much_time_stays_by_the_checkpoints_own_times(
    times: dict[int, float | None], staying: list[int]
) -> None:
    assert kept(saved_at(times), Rules(keep_last=1, every_s=60)) == staying


@pytest.mark.parametrize(
    ("values", "best", "staying"),
    [
        ({1: 0.9, 2: 0.5, 3: 0.6}, Best(metric="accuracy"), [1, 3]),
        ({1: 0.9, 2: 0.5, 3: 0.6}, Best(metric="accuracy", mode="min"), [2, 3]),
        ({1: 0.9, 2: 0.8, 3: 0.7, 4: 0.1}, Best(metric="accuracy", count=2), [1, 2, 4]),
        ({1: NAN, 2: 0.1, 3: NAN, 4: 0.0}, Best(metric="accuracy"), [2, 4]),
        ({1: NAN, 2: 0.1, 3: NAN, 4: 0.2}, Best(metric="accuracy", mode="min"), [2, 4]),
        ({1: NAN, 2: NAN, 3: None}, Best(metric="accuracy"), [3]),
        ({1: None, 2: None, 3: None}, Best(metric="accuracy"), [3]),
        ({1: 0.9, 2: 0.9, 3: 0.9}, Best(metric="recall"), [3]),
        ({1: math.inf, 2: 0.2, 3: 0.3}, Best(metric="accuracy", mode="min"), [2, 3]),
        # The saves between two evaluations carry the first one's value: they are one, and the first is the evaluated.
        ({1: 0.5, 2: 0.9, 3: 0.9, 4: 0.9, 5: 0.7, 6: 0.1}, Best(metric="accuracy", count=2), [2, 5, 6]),
    ],
)
def test_the_best_by_a_metric_stay(values: dict[int, float | None], best: Best, staying: list[int]) -> None:
    assert kept(measured(values), Rules(keep_last=1, best=best)) == staying


def test_pinned_steps_stay_for_good() -> None:
    assert kept(at(10, 20, 30, 40), Rules(keep_last=1, pinned=(20, 77))) == [20, 40]


def test_a_checkpoint_stays_when_any_rule_keeps_it() -> None:
    candidates = measured({10: 0.9, 20: 0.1, 100: 0.2, 120: 0.3, 130: 0.4})
    rules = Rules(keep_last=1, every_steps=100, best=Best(metric="accuracy"), pinned=(20,))
    assert kept(candidates, rules) == [10, 20, 100, 130]


@pytest.mark.parametrize(
    ("progress", "metrics"),
    [
        (Progress(epoch=0, step=7, samples=1), {}),
        (Progress(epoch=0, step=7, samples=1, loss=0.5), {"loss": 0.5}),
        (Progress(epoch=0, step=7, samples=1, loss=0.5, metrics={"loss": 0.7, "f1": 1.0}), {"loss": 0.7, "f1": 1.0}),
        (Progress(epoch=0, step=7, samples=1, loss="inf", metrics={"f1": "-inf"}), {"loss": math.inf, "f1": -math.inf}),
    ],
)
def test_the_metrics_are_the_evaluation_s_and_the_loss(progress: Progress, metrics: dict[str, float]) -> None:
    assert Candidate.of(manifest(progress=progress)).metrics == metrics


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:01:00+00:00", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
        ("1970-01-01T00:01:00", 60.0),
        ("yesterday", None),
        ("", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_a_time_that_cannot_be_read_is_none(text: str, seconds: float | None) -> None:
    found = Candidate.of(manifest(saved_at=text)).saved_at_s
    assert found == seconds or (seconds is None and found is not None and found < 0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Rules(keep_last=0), "keep_last must be at least 1, not 0"),
        (lambda: Rules(every_steps=0), "every_steps must be at least 1, not 0"),
        (lambda: Rules(every_s=0.0), "every_s must be more than 0, not 0.0"),
        (lambda: Rules(every_s=NAN), "every_s must be more than 0, not nan"),
        (lambda: Best(metric="a", count=0), "count must be at least 1, not 0"),
        (lambda: Best(metric="a", mode="most"), "the best by a is its min or its max, not its most"),  # type: ignore[arg-type]
    ],
)
def test_a_rule_that_cannot_be_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ValueError) as refused:
        make()
    assert str(refused.value) == text


def test_rules_are_plain_values() -> None:
    rules = Rules(every_steps=5, best=Best(metric="a"), pinned=(1, 2))
    plain = json.loads(json.dumps(dataclasses.asdict(rules)))
    assert Rules(**(plain | {"best": Best(**plain["best"]), "pinned": tuple(plain["pinned"])})) == rules


IDS = st.builds(attempt_id, st.integers(0, 40), st.integers(1, 2), st.integers(1, 2))
VALUES = st.dictionaries(st.sampled_from(["a", "b"]), st.floats(), max_size=2)
CANDIDATES = st.lists(
    st.builds(Candidate, IDS, st.none() | st.integers(-500, 500).map(float), VALUES),
    unique_by=lambda candidate: candidate.id,
    max_size=14,
)
MODES = st.sampled_from(["min", "max"])
BEST = st.builds(Best, metric=st.sampled_from(["a", "b"]), mode=MODES, count=st.integers(1, 3))
RULES = st.builds(
    Rules,
    keep_last=st.integers(1, 4),
    every_steps=st.none() | st.integers(1, 12),
    every_s=st.none() | st.floats(0.5, 300),
    best=st.none() | BEST,
    pinned=st.lists(st.integers(0, 40), max_size=3).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(CANDIDATES, RULES, st.lists(IDS, max_size=2))
def test_whatever_the_rules_the_newest_the_pinned_and_the_protected_stay(
    candidates: list[Candidate], rules: Rules, protected: list[AttemptId]
) -> None:
    going = doomed(candidates, rules, protected=protected)
    newest = sorted(candidate.id for candidate in candidates)[-rules.keep_last :]
    assert going == sorted(set(going))
    assert set(going).isdisjoint({*newest, *protected})
    assert not {each.step for each in going} & set(rules.pinned)
    assert set(going) <= {candidate.id for candidate in candidates}


@settings(max_examples=300, deadline=None)
@given(CANDIDATES, RULES)
def test_what_one_save_keeps_is_kept_when_asked_again(candidates: list[Candidate], rules: Rules) -> None:
    """Deleting must not make something else go: else a run that saves nothing new would still lose checkpoints."""
    going = doomed(candidates, rules, protected=[])
    left = [candidate for candidate in candidates if candidate.id not in going]
    assert doomed(left, rules, protected=[]) == []


def test_a_run_s_checkpoints_are_kept_by_all_rules_at_once(tmp_path: Path, stage: Stage) -> None:
    persister = ThreadPersister(str(tmp_path))
    rules = Rules(keep_last=2, every_steps=40, best=Best(metric="accuracy"), pinned=(20,))
    for step in range(10, 110, 10):
        progress = Progress(epoch=0, step=step, samples=0, metrics={"accuracy": 1.0 if step == 30 else 0.5})
        work = dataclasses.replace(job(attempt_id(step), world_size=1, progress=progress), rules=rules)
        persister.submit(work, stage(shard(step, 0, 1)))
        persister.close()
    assert steps(LocalBackend(tmp_path)) == [100, 90, 80, 40, 30, 20]


@pytest.mark.parametrize("how", ["gone", "without its manifest"])
def test_by_a_listing_that_has_shrunk_nothing_is_deleted(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = LocalBackend(tmp_path)
    for step in (10, 20, 30, 40):
        save(backend, attempt_id(step))
    own = [attempt_id(step) for step in (20, 30, 40)]
    folder = tmp_path / attempt_id(30).folder
    folder.rename(tmp_path / "away") if how == "gone" else (folder / "manifest.json").rename(tmp_path / "away")
    assert maintain(backend, attempt_id(40), Rules(keep_last=1), own=own) == []
    assert steps(backend) == [40, 20, 10]
    (line,) = caplog.messages
    assert line == (
        f"nothing is deleted at {tmp_path}: its listing does not show {attempt_id(30).name}, committed by this run"
    )
    (tmp_path / "away").rename(folder if how == "gone" else folder / "manifest.json")
    assert [each.step for each in maintain(backend, attempt_id(40), Rules(keep_last=1), own=own)] == [10, 20, 30]


def test_a_persister_that_misses_what_it_committed_deletes_nothing(
    tmp_path: Path, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    persister = ThreadPersister(str(tmp_path))

    def commit(step: int) -> None:
        persister.submit(job(attempt_id(step), world_size=1, keep_last=1), stage(shard(step, 0, 1)))
        persister.close()

    commit(10)
    commit(20)  # Deletes step 10, which is missed by nobody from here on.
    commit(30)
    assert (steps(LocalBackend(tmp_path)), caplog.messages) == ([30], [])
    (tmp_path / attempt_id(30).folder).rename(tmp_path / "away")
    commit(40)
    commit(50)
    assert steps(LocalBackend(tmp_path)) == [50, 40]
    assert len(caplog.messages) == 2
    (tmp_path / "away").rename(tmp_path / attempt_id(30).folder)
    commit(60)
    assert steps(LocalBackend(tmp_path)) == [60]
