"""Which checkpoint all ranks load, and that a commit needs everything that was planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.state_dict_saver import save

import relight
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.storage.errors import NotFound
from relight.storage.layout import AttemptId
from relight.workers.dcp.choosing import Seen, agreed

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture
def saved(tmp_path: Path) -> list[AttemptId]:
    """Steps 1, 2 and 3, in this order."""
    for step in (1, 2, 3):
        save({"it": step}, checkpoint_id=str(step), storage_writer=relight.dcp.Writer(str(tmp_path)))
    return sorted(Catalog(open_backend(str(tmp_path))).attempts())


def damage(run: Path, attempt: AttemptId) -> None:
    path = run / attempt.shard_key(0, 1)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def test_ranks_that_saw_different_ones_go_to_the_older(tmp_path: Path, saved: list[AttemptId]) -> None:
    one, two, three = saved
    assert agreed(open_backend(str(tmp_path)), [Seen(three), Seen(two), Seen(three)]) == two
    assert agreed(open_backend(str(tmp_path)), [Seen(one)]) == one


def test_what_they_are_sent_to_instead_is_proven_first(tmp_path: Path, saved: list[AttemptId]) -> None:
    one, two, three = saved
    damage(tmp_path, two)
    assert agreed(open_backend(str(tmp_path)), [Seen(three), Seen(three, "it is damaged")]) == one


def test_where_nothing_is_whole_every_reason_is_told(tmp_path: Path, saved: list[AttemptId]) -> None:
    one, two, three = saved
    damage(tmp_path, one)
    damage(tmp_path, two)
    with pytest.raises(NotFound) as caught:
        agreed(open_backend(str(tmp_path)), [Seen(three, "step 3 has a flaw")])
    told = str(caught.value)
    assert told.startswith(f"there is no valid checkpoint at {tmp_path}; step 3 has a flaw; ")
    assert two.shard_key(0, 1) in told
    assert one.shard_key(0, 1) in told


class Forgetful(DefaultSavePlanner):
    """Plans more than it has written."""

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        return SavePlan(new_plan.items[1:], new_plan.storage_data, new_plan.planner_data)


@pytest.mark.parametrize(
    ("state", "missing"), [({"a": torch.ones(2), "b": 1}, "a at [0]"), ({"a": 1, "b": torch.ones(2)}, "a")]
)
def test_what_was_planned_and_not_written_is_no_checkpoint(tmp_path: Path, state: dict[str, Any], missing: str) -> None:
    with pytest.raises(CheckpointException) as caught:
        save(state, storage_writer=relight.dcp.Writer(str(tmp_path)), planner=Forgetful())
    assert f"no rank has written {missing}, which the plan has: there will be no checkpoint" in str(caught.value)
    assert relight.dcp.newest_step(str(tmp_path)) is None
