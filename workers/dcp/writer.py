"""`relight.dcp.Writer`: where dcp.save and dcp.async_save write when they write to Relight."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from typing import Any, Final

from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from ...storage.commit import write_shard
from ...storage.errors import SaveFailed
from ...storage.receipts import Receipt
from ...storage.target import split_target
from ..origin import origin
from .lineage import Lineage, backend_of, job, lineage_of, rules_of
from .memory import MEMORY
from .naming import names_a_step, step_of
from .planning import Outline, gathered, loose, outline, refuse_gaps, state_of
from .staging import Place, fill, is_tensor, share

_SHARD: Final = MetadataIndex("")
"""What stands in a rank's results for its shard as a whole."""

_NO_CACHING: Final = (
    "the plan is one that an earlier save was made by, and each of Relight's saves has a name of its own: leave "
    "enable_plan_caching off in the planner"
)


class Writer(StorageWriter):
    """Saves of torch.distributed.checkpoint as checkpoints of the run at `url`: whole and proven, or not there at all.

    `dcp.save(state_dict, checkpoint_id="step-100", storage_writer=relight.dcp.Writer(url))`. The step is what
    `checkpoint_id` ends with, else the one after the newest. A step that is saved again is a new attempt, never an
    overwrite. `keep_last`: so many of the newest stay (all, unless said). `resumed_from`: this job goes on from that
    step, and later ones of earlier jobs are ruled out, and removed. `single_writer`: vouches that nobody else
    writes there, for a store that cannot tell.
    """

    def __init__(
        self, url: str, *, keep_last: int | None = None, resumed_from: int | None = None, single_writer: bool = False
    ) -> None:
        """Nothing is contacted yet. Raises BadUrl, and ValueError for a number that cannot be."""
        super().__init__()
        if split_target(url)[1] is not None:
            raise ValueError(f"a Writer takes a URL without a step, not {url!r}: give the step as checkpoint_id")
        backend_of(url)
        self.url = url
        self._rules = rules_of(keep_last)
        self._resumed_from = resumed_from
        self._single_writer = single_writer
        # Of the process that made it: a background process that saves for that one is of the same job.
        self._incarnation = _incarnation(os.getpid())
        self._asked: int | None = None
        self._step: int | None = None
        self._own_values: frozenset[str] = frozenset()
        self._outline: Outline | None = None

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        self._asked = None if checkpoint_id is None else step_of(checkpoint_id)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return names_a_step(checkpoint_id)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002, FBT001
        if not kwargs.get("use_collectives", True):
            raise ValueError("without collectives nobody could commit what all ranks wrote: leave use_collectives on")
        self._step, self._asked = self._asked, None

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        self._own_values = frozenset(item.index.fqn for item in plan.items if not is_tensor(item))
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """On the coordinator: give the save its name, and have rank 0 write all values that it has."""
        if not all(plan.usable for plan in plans):
            raise ValueError(_NO_CACHING)
        self._outline = outline(plans)
        lineage = self._lineage()
        place = Place(lineage.begin(self._step), lineage.run, lineage.token, 0, len(plans), self._outline.bare)
        return [
            replace(plan, storage_data=replace(place, rank=rank))
            for rank, plan in enumerate(gathered(plans, self._own_values))
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Make this rank's shard durable, in one piece. Raises what went wrong: then there will be no checkpoint."""
        place = plan.storage_data
        if not isinstance(place, Place) or getattr(planner, "_enable_plan_caching", False):
            raise ValueError(_NO_CACHING)
        found = share(plan, planner, place)
        values = found.values
        layout = found.layout(state_of(self._outline, values, place.id.step) if self._outline else loose(values))
        with MEMORY.lent(layout.size) as view:
            fill(view, layout, found, planner)
            receipt = write_shard(backend_of(self.url), job(place, self._rules), view)
        sizes = {item.index: piece.size for piece, item in found.pieces.items()}
        results: Future[list[WriteResult]] = Future()
        results.set_result(
            [
                WriteResult(_SHARD, layout.size, (place, receipt)),
                *(WriteResult(item.index, sizes.get(item.index, 0), None) for item in plan.items),
            ]
        )
        return results

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On the coordinator, when all shards are durable: the commit."""
        self._outline = None
        shards = [_shard(written) for written in results]
        place = replace(shards[0][0], rank=0)
        if any(theirs != replace(place, rank=rank) for rank, (theirs, _) in enumerate(shards)):
            raise SaveFailed("the ranks have written different saves: there will be no checkpoint")
        refuse_gaps(metadata, {result.index for written in results for result in written})
        self._lineage().finish(place, [receipt for _, receipt in shards], self._rules)

    def _lineage(self) -> Lineage:
        return lineage_of(
            self.url, self._incarnation, resumed_from=self._resumed_from, single_writer=self._single_writer
        )


def _shard(written: list[WriteResult]) -> tuple[Place, Receipt]:
    """What a rank says of its shard."""
    place, receipt = next(result.storage_data for result in written if result.index == _SHARD)
    return place, receipt


@functools.cache
def _incarnation(_pid: int) -> str:
    return origin().incarnation
