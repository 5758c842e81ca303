"""What ranks do together, with three and four real ones: steps that repeat, votes, buffers, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relight.tests.workers.ranks import play
from relight.workers.agreement import Votes


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every rank's answers to every scene. Two ranks would not do: the sum of two numbers has but one order."""
    return play("relight.tests.workers.scenes:all_scenes", 3, tmp_path_factory.mktemp("ranks"))


def told(answers: list[dict[str, Any]], scene: str) -> Any:
    """The answer of all ranks, which is one."""
    first, *others = [answer[scene] for answer in answers]
    assert all(other == first for other in others)
    return first


def test_steps_after_a_restart_are_bit_identical_to_the_undisturbed_run(answers: list[dict[str, Any]]) -> None:
    weights = told(answers, "repeating")
    assert weights["restarted"] == weights["undisturbed"]


@pytest.mark.parametrize("ranks", [2, 4])
def test_two_and_four_ranks_repeat_too(tmp_path: Path, ranks: int) -> None:
    for weights in play("relight.tests.workers.scenes:repeating", ranks, tmp_path):
        assert weights["restarted"] == weights["undisturbed"]


def test_stock_ddp_does_not_repeat_its_step_which_is_why_buckets_are_settled(answers: list[dict[str, Any]]) -> None:
    """If this fails, torch has changed its buckets: look whether settling is still needed."""
    weights = told(answers, "stock")
    assert weights["restarted"] != weights["undisturbed"]


def test_settling_leaves_weights_and_gradients_as_they_were(answers: list[dict[str, Any]]) -> None:
    assert told(answers, "settling") == {"gradients kept": True, "weights kept": True}


def test_uneven_shares_give_the_gradient_of_the_whole_batch(answers: list[dict[str, Any]]) -> None:
    assert told(answers, "alone_and_together") < 1e-6


def test_synced_buffers_are_rank_zeros(answers: list[dict[str, Any]]) -> None:
    assert told(answers, "buffers") == {"mean": [5.0, 5.0], "batches": 7}


def test_all_ranks_read_the_same_votes_at_the_same_step(answers: list[dict[str, Any]]) -> None:
    last = len(answers) - 1
    assert told(answers, "voting") == [
        "None",
        str(Votes()),
        str(Votes(stop=True, committed_step=last)),
        str(Votes(save_due=True, failed_step=4)),
        str(Votes(busy=True)),
    ]


def test_every_sample_is_evaluated_once_and_all_ranks_know_the_mean(answers: list[dict[str, Any]]) -> None:
    told_all = told(answers, "measuring")
    assert told_all["seven"] == {"mean": 4.0, "large": 4 / 7}
    assert told_all["helped"] == told_all["seven"]


def test_ranks_beyond_the_last_sample_count_nothing(answers: list[dict[str, Any]]) -> None:
    assert told(answers, "measuring")["one"] == {"mean": 1.0, "large": 0.0}


def test_evaluation_leaves_modes_and_generators_as_they_were(answers: list[dict[str, Any]]) -> None:
    measured = told(answers, "measuring")
    assert measured["modes"] == [True, True, False]
    assert measured["draw kept"]


def test_metrics_that_are_not_one_value_per_sample_are_refused(answers: list[dict[str, Any]]) -> None:
    assert answers[0]["refusals"]["wrong"] == (
        "Wrong.metrics() must return one value per sample, shape [n]; it returned {'mean': (), 'rows': (2,)}"
    )


def test_empty_validation_data_is_refused(answers: list[dict[str, Any]]) -> None:
    assert answers[0]["refusals"]["empty"] == ("Squares.val_data() is empty: return None to go without evaluation")


def test_every_rank_draws_from_a_stream_of_its_own(answers: list[dict[str, Any]]) -> None:
    assert len({answer["seeds"] for answer in answers}) == len(answers)
