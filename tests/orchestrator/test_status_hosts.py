"""`relight status` of a run on several hosts: whose books count, and whose failure it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.orchestrator.commands.status import status
from relight.tests.orchestrator.recorded import Recorded

NOON = 1_700_000_000.0


def test_of_several_hosts_the_first_ones_books_count_and_all_are_listed(tmp_path: Path) -> None:
    alpha, beta = Recorded("aaa", NOON), Recorded("bbb", NOON + 1, "beta", rank=1, leader="aaa")
    for life in (alpha, beta):
        life.launch()
        life.join(1, hosts=2)
        life.train(1, 100)
        life.show()
    beta.show()
    alpha.at += 40
    alpha.show()
    alpha.store(tmp_path)
    beta.store(tmp_path)
    facts = status(str(tmp_path), alpha.at)
    assert [(host["host"], host["ranks"], host["state"]) for host in facts["hosts"]] == [
        ("alpha", [0], "running"),
        ("beta", [1], "silent"),
    ]
    assert (facts["lives"], facts["world_size"], facts["wall_s"]) == (1, 2, alpha.at - NOON)


def test_a_failure_on_another_host_is_the_runs_last_failure(tmp_path: Path) -> None:
    alpha, beta = Recorded("aaa", NOON), Recorded("bbb", NOON, "beta", rank=1, leader="aaa")
    for life in (alpha, beta):
        life.launch()
        life.train(1, 5)
    alpha.record("exited", returncode=-9, killed_by_us=True)
    alpha.record("regrouped", attempt=1, reason="beta: rank 1: killed by SIGKILL", cause="failed", kind="KILLED")
    alpha.join(2, hosts=2)
    beta.fail(1, step=5)
    for life in (alpha, beta):
        life.train(6, 9, resumed=5)
        life.show()
        life.store(tmp_path)
    facts = status(str(tmp_path), alpha.at)
    assert (facts["last_failure"]["host"], facts["last_failure"]["rank"]) == ("beta", 1)
    assert facts["lost_by_cause_s"].keys() == {"KILLED"}
    assert facts["failures"] == {"KILLED": 1}


def test_a_host_that_is_lost_is_one_failure_though_all_others_tell_of_it(tmp_path: Path) -> None:
    alpha, beta = Recorded("aaa", NOON), Recorded("bbb", NOON, "beta", rank=1, leader="aaa")
    for life in (alpha, beta):
        life.launch()
        life.train(1, 5)
        life.record("exited", returncode=-9, killed_by_us=True)
        life.record("host lost", attempt=1, reason="gamma is silent")
        life.record("regrouped", attempt=1, reason="gamma is silent", cause="lost")
        life.join(2, hosts=2)
        life.train(6, 9, resumed=5)
        life.store(tmp_path)
    facts = status(str(tmp_path), alpha.at)
    assert facts["failures"] == {"HOST_LOST": 1}
    assert facts["lost_by_cause_s"].keys() == {"HOST_LOST"}
    assert facts["mtbf_s"] is not None


def test_when_the_lead_changes_no_second_counts_twice(tmp_path: Path) -> None:
    alpha, beta = Recorded("aaa", NOON), Recorded("bbb", NOON, "beta", rank=1, leader="aaa")
    alpha.launch()
    alpha.train(1, 50)
    alpha.show()
    beta.launch()
    beta.train(1, 50)
    beta.record("exited", returncode=-9, killed_by_us=True)
    beta.record("regrouped", attempt=1, reason="alpha was lost")
    beta.rank, beta.leader = 0, "bbb"
    beta.join(2)
    beta.train(51, 60, resumed=50)
    beta.show()
    for life in (alpha, beta):
        life.store(tmp_path)
    facts = status(str(tmp_path), beta.at)
    assert facts["wall_s"] == pytest.approx(beta.at - NOON, abs=0.01)
    assert facts["seconds"]["productive"] == pytest.approx(60, abs=2)
