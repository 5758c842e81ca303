"""`relight status` on recorded journals: what it says is what happened, and its table adds up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from relight.orchestrator.accounting.ledger import account
from relight.orchestrator.accounting.lives import lives
from relight.orchestrator.commands.status import status
from relight.storage.errors import NotFound
from relight.tests.orchestrator.recorded import Recorded

NOON = 1_700_000_000.0


def _asked(url: Path, now: float) -> dict[str, Any]:
    facts = status(str(url), now)
    assert sum(facts["seconds"].values()) == pytest.approx(facts["wall_s"], rel=0.01, abs=0.01)
    return facts


def _seconds(facts: dict[str, Any]) -> dict[str, float]:
    return {heading: seconds for heading, seconds in facts["seconds"].items() if seconds}


def test_a_run_that_trains(tmp_path: Path) -> None:
    life = Recorded("aaa", NOON)
    life.launch()
    life.train(1, 21)
    life.show()
    life.store(tmp_path)
    facts = _asked(tmp_path, life.at + 4)
    assert (facts["state"], facts["doing"], facts["heard_s_ago"]) == ("running", "training", 4)
    assert (facts["step"], facts["attempt"], facts["world_size"], facts["lives"]) == (21, 1, 1, 1)
    assert [(host["host"], host["ranks"]) for host in facts["hosts"]] == [("alpha", [0])]
    assert _seconds(facts) == {"productive": 21, "restore": 1, "startup": 2}
    assert facts["goodput"] == facts["ettr"] == pytest.approx(21 / 24, abs=1e-4)
    assert (facts["failures"], facts["last_failure"], facts["mtbf_s"]) == ({}, None, None)


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (0, "finished"),
        (75, "preempted"),
        (70, "gave up"),
        (78, "refused its configuration"),
        (1, "failed"),
        (9, "failed"),
    ],
)
def test_a_run_that_ended_says_how(tmp_path: Path, code: int, state: str) -> None:
    life = Recorded("aaa", NOON)
    life.launch()
    life.train(1, 5)
    life.end(code)
    life.store(tmp_path)
    facts = _asked(tmp_path, life.at + 3600)
    assert (facts["state"], facts["exit_code"], facts["heard_s_ago"]) == (state, code, 3600)
    assert facts["wall_s"] == 2 + 1 + 5 + 1


def test_a_failure_is_told_with_what_was_decided_and_what_it_cost(tmp_path: Path) -> None:
    life = Recorded("aaa", NOON)
    life.launch()
    life.train(1, 10)
    life.fail(1, step=10)
    life.train(7, 12, resumed=6)
    life.show()
    life.store(tmp_path)
    facts = _asked(tmp_path, life.at)
    assert facts["last_failure"] == {
        "kind": "KILLED", "what": "killed by SIGKILL", "rank": 0, "step": 10, "attempt": 1, "host": "alpha",
        "age_s": 7, "decision": "Restart", "reason": "first failure",
    }  # fmt: skip
    # The last second had no finished step yet: step 10 was seen at its beginning.
    assert _seconds(facts) == {"productive": 5 + 6, "lost_work": 5, "restore": 2, "startup": 2}
    assert (facts["steps_redone"], facts["restarts"], facts["failures"]) == (4, 1, {"KILLED": 1})
    assert facts["lost_by_cause_s"] == {"KILLED": 6}
    assert (facts["restart_median_s"], facts["mtbf_s"]) == (1, 20)


def test_a_launcher_that_was_killed_is_silent_and_then_lost(tmp_path: Path) -> None:
    first = Recorded("aaa", NOON)
    first.launch()
    first.train(1, 100)
    first.show()
    first.store(tmp_path)
    assert _asked(tmp_path, first.at + 29)["state"] == "running"
    assert _asked(tmp_path, first.at + 31)["state"] == "silent"

    second = Recorded("bbb", first.at + 60)
    second.launch()
    second.train(81, 90, resumed=80)
    second.show()
    second.store(tmp_path)
    facts = _asked(tmp_path, second.at)
    assert (facts["state"], facts["lives"], facts["failures"]) == ("running", 2, {"LAUNCHER_LOST": 1})
    assert _seconds(facts) == pytest.approx(
        {"productive": 80 + 10, "lost_work": 20, "away": 60, "restore": 2, "startup": 4}
    )
    assert facts["steps_redone"] == 20
    assert facts["lost_by_cause_s"] == {"LAUNCHER_LOST": pytest.approx(20)}
    assert facts["ettr"] == pytest.approx(90 / 176, abs=1e-4)
    assert facts["goodput"] == pytest.approx(90 / 116, abs=1e-4)


def test_what_two_later_lives_redo_is_lost_once_each(tmp_path: Path) -> None:
    at = NOON
    for name, first_step, last_step in (("aaa", 1, 100), ("bbb", 81, 90), ("ccc", 71, 75)):
        life = Recorded(name, at)
        life.launch(0)
        life.train(first_step, last_step, resumed=first_step - 1)
        life.end(75)
        life.store(tmp_path)
        at = life.at
    facts = _asked(tmp_path, at)
    assert facts["steps_redone"] == 20 + 10 + 10
    assert facts["seconds"]["productive"] == pytest.approx(70 + 5, abs=0.5)
    assert facts["seconds"]["lost_work"] == pytest.approx(20 + 10 + 10, abs=0.5)
    assert facts["lost_by_cause_s"] == {"PREEMPTED": pytest.approx(40, abs=0.5)}


def test_damage_and_strangers_are_passed_over(tmp_path: Path) -> None:
    life = Recorded("aaa", NOON)
    life.launch()
    life.train(1, 9)
    life.show()
    path = life.store(tmp_path)
    whole = _asked(tmp_path, life.at)
    with path.open("ab") as file:
        file.write(b'\n\xff\xfe\n[1]\n{"event": 3}\n{"event": "failed"}\nnull\n{"event": "booked", "at": 1e99999}\n')
        file.write(b'{"event": "booked", "at": 1, "wall_s": "x", "seconds": {}, "step": 1}\n{"event": "ended", "at": ')
    journal = tmp_path / "journal"
    (journal / "notes.txt").write_text("mine")
    (journal / ".jsonl").write_text("{}")
    (journal / "ccc-folder-00000.jsonl").mkdir()
    (journal / "ddd-empty-00000.jsonl").touch()
    assert _asked(tmp_path, life.at) == whole


def test_an_older_launchers_journal_is_read_too(tmp_path: Path) -> None:
    """It had no numbers in its name, and told its leader's incarnation in place of its own."""
    life = Recorded("aaa", NOON)
    life.lines = [
        {"event": "launched", "at": NOON, "host": "alpha", "incarnation": "aaa"},
        {"event": "joined", "at": NOON + 1, "host": "alpha", "incarnation": "aaa", "group_rank": 0, "first_rank": 0,
         "local_world_size": 2, "world_size": 2},
        {"event": "ended", "at": NOON + 50, "host": "alpha", "incarnation": "aaa", "exit_code": 0},
    ]  # fmt: skip
    life.store(tmp_path, "{}-{}.jsonl")
    facts = _asked(tmp_path, NOON + 60)
    assert (facts["state"], facts["wall_s"], facts["hosts"][0]["ranks"]) == ("finished", 50, [0, 1])


def test_a_scripts_journal_lies_beside_its_logs(tmp_path: Path) -> None:
    first, second = Recorded("aaa", NOON), Recorded("bbb", NOON + 100)
    for life in (first, second):
        life.launch()
        life.train(1, 5, resumed=0)
        life.end(0)
    (tmp_path / "journal.jsonl").write_text(first.text + second.text)
    facts = _asked(tmp_path, second.at)
    assert (facts["state"], facts["lives"], facts["committed"]) == ("finished", 2, None)


def test_where_there_is_nothing_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        status(str(tmp_path / "none"), NOON)
    assert str(caught.value) == f"there is no run at {tmp_path}/none"
    (tmp_path / "run.json").touch()
    with pytest.raises(NotFound) as caught:
        status(str(tmp_path), NOON)
    assert str(caught.value).startswith(f"no launcher has written a journal at {tmp_path}: a script's run has its own ")


def test_it_needs_no_torch_and_answers_at_once(tmp_path: Path) -> None:
    """A month's journal of a run that failed a hundred times."""
    life = Recorded("aaa", NOON)
    life.launch()
    for attempt in range(1, 101):
        life.train(attempt, attempt + 2, resumed=attempt - 1)
        life.fail(attempt, step=attempt + 2)
    for _ in range(30 * 144):
        life.at += 600
        life.record("progress", **life.keeper.facts())
    life.end(0)
    life.store(tmp_path)
    program = (
        "import sys, time\n"
        "from relight.__main__ import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "loaded = {'torch', 'numpy', 's3fs', 'aiohttp'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, "status", str(tmp_path)], check=True, capture_output=True)
    took_s, size = time.perf_counter() - began, len(life.text)
    print(f"relight status: {took_s:.2f} s with a journal of {size / 2**20:.1f} MiB (a month and 100 failures)")
    assert size < 5 * 2**20


_DEEDS: list[Callable[[Recorded, int], None]] = [
    lambda life, step: life.train(step + 1, step + 5, resumed=step),
    lambda life, step: life.fail(1, step=step),
    lambda life, step: life.show(),
    lambda life, step: life.record("progress", **life.keeper.facts()),
    lambda life, step: life.end(75),
]
_HISTORY = some.lists(some.tuples(some.sampled_from(range(len(_DEEDS))), some.integers(0, 30)), max_size=8)


@given(some.lists(some.tuples(some.floats(0, 100), _HISTORY), min_size=1, max_size=5))
def test_whatever_the_lives_were_the_table_adds_up_to_the_time_that_passed(
    histories: list[tuple[float, list[tuple[int, int]]]],
) -> None:
    at, documents = NOON, []
    for number, (pause_s, history) in enumerate(histories):
        life = Recorded(f"life{number}", at + pause_s)
        life.launch()
        for deed, step in history:
            _DEEDS[deed](life, step)
        documents.append((life.incarnation, [*life.lines, *([life.now] if life.now else [])]))
        at = life.at
    found = lives(documents)
    whole = account(found)
    assert whole.wall_s == pytest.approx(max(life.last_at for life in found) - found[0].began_at, abs=0.05)
    assert min(whole.seconds.values()) >= -0.01
