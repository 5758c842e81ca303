"""Which step a save is and what stays of the others; and what is refused."""

from __future__ import annotations

import pickle  # noqa: TID251 -- as DCP sends errors from rank to rank
from pathlib import Path

import pytest
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

import relight
from relight.storage.backends.open import open_backend
from relight.storage.errors import Damaged
from relight.storage.runs import register
from relight.tests.workers.dcp.alone import everything, put, refusal, steps

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def test_the_step_is_what_the_id_ends_with_and_else_the_one_after_the_newest(tmp_path: Path) -> None:
    for step in (None, None, 100, None):
        put(tmp_path, {"it": 1}, step)
    writer = relight.dcp.Writer(str(tmp_path))
    for id_ in ("outputs/checkpoint/step-150", "7/", Path("x") / "000200"):
        save({"it": 1}, checkpoint_id=id_, storage_writer=writer)
    assert steps(tmp_path) == [200, 150, 101, 100, 7, 2, 1]
    assert relight.dcp.newest_step(str(tmp_path)) == 200


def test_a_step_that_is_saved_again_is_a_new_attempt(tmp_path: Path) -> None:
    for value in range(8):
        put(tmp_path, {"it": value}, 5)
        assert everything(f"{tmp_path}@5") == {"it": value}
    assert steps(tmp_path) == [5] * 8


def test_all_are_kept_unless_it_is_said_how_many(tmp_path: Path) -> None:
    for step in range(1, 6):
        put(tmp_path, {"it": 1}, step)
    assert steps(tmp_path) == [5, 4, 3, 2, 1]
    put(tmp_path, {"it": 1}, 6, keep_last=2)
    assert steps(tmp_path) == [6, 5]


def test_an_earlier_step_may_be_saved_after_a_later_one(tmp_path: Path) -> None:
    put(tmp_path, {"it": 1}, 9)
    put(tmp_path, {"it": 2}, 4)
    assert steps(tmp_path) == [9, 4]


def test_whoever_goes_back_for_good_says_so(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        put(tmp_path, {"it": step}, step)
    before = relight.dcp.Writer(str(tmp_path))
    after = relight.dcp.Writer(str(tmp_path), resumed_from=1)
    after._incarnation = "another start"
    save({"it": "again"}, checkpoint_id="2", storage_writer=after)
    assert steps(tmp_path) == [2, 1]
    assert everything(str(tmp_path)) == {"it": "again"}
    assert "and must not write any more" in refusal(save, {"it": 1}, checkpoint_id="4", storage_writer=before)


# --- refusals ---


def test_an_id_without_a_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint_id 'final' names no step: let it end with the step's number"):
        save({"it": 1}, checkpoint_id="final", storage_writer=relight.dcp.Writer(str(tmp_path)))
    assert not relight.dcp.Writer.validate_checkpoint_id("final")
    assert relight.dcp.Reader.validate_checkpoint_id("step-1")


def test_a_url_with_a_step_is_no_place_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a Writer takes a URL without a step"):
        relight.dcp.Writer(f"{tmp_path}@5")
    with pytest.raises(ValueError, match="keep_last must be at least 1, not 0"):
        relight.dcp.Writer(str(tmp_path), keep_last=0)


def test_a_plan_from_a_cache_is_refused(tmp_path: Path) -> None:
    planner = DefaultSavePlanner(enable_plan_caching=True)
    said = refusal(save, {"it": 1}, storage_writer=relight.dcp.Writer(str(tmp_path)), planner=planner)
    assert "leave enable_plan_caching off in the planner" in said


def test_a_save_without_collectives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave use_collectives on"):
        save({"it": 1}, storage_writer=relight.dcp.Writer(str(tmp_path)), use_collectives=False)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("{run}@9", "there is no committed checkpoint of step 9 at {run} (there are: 1)"),
        ("{run}-not", "there is no valid checkpoint at {run}-not"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(tmp_path: Path, target: str, reason: str) -> None:
    run = tmp_path / "run"
    put(run, {"it": 1})
    assert reason.format(run=run) in refusal(load, {"it": 0}, storage_reader=relight.dcp.Reader(target.format(run=run)))


def test_a_run_that_something_else_trains_is_not_taken_over(tmp_path: Path) -> None:
    register(open_backend(str(tmp_path)), {"name": "digits"})
    assert f"{tmp_path} holds a run that is not DCP's (name=digits). Give the Writer" in refusal(
        put, tmp_path, {"it": 1}
    )


def test_metadata_that_cannot_be_read_is_not_empty_metadata(tmp_path: Path) -> None:
    metadata = relight.dcp.Reader(str(tmp_path)).read_metadata()
    with pytest.raises(Exception, match="there is no valid checkpoint"):
        _ = metadata.state_dict_metadata


def test_damage_travels_between_ranks() -> None:
    again = pickle.loads(pickle.dumps(Damaged("a/key", "a reason")))
    assert (again.key, again.reason, str(again)) == ("a/key", "a reason", "a/key is damaged: a reason")
