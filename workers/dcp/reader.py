"""`relight.dcp.Reader`: where dcp.load reads what lies at a Relight URL."""

from __future__ import annotations

import logging
import os
from typing import Any, NoReturn

from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from ...storage.errors import Damaged, StorageError
from ...storage.target import split_target
from .choosing import Seen, agreed, open_attempt, open_newest, open_step
from .fetching import Fetched
from .lineage import backend_of
from .naming import names_a_step, step_of
from .opened import Opened
from .wanted import deliver, requests

_log = logging.getLogger(__name__)


class Reader(StorageReader):
    """What torch.distributed.checkpoint loads from the run at `url`: the newest valid checkpoint, or `URL@STEP`.

    `dcp.load(state_dict, storage_reader=relight.dcp.Reader(url))`. A `checkpoint_id` chooses a step, too, by the
    number at its end. A step that is asked for and damaged is an error on all ranks; without one the next older is
    loaded, and that is said. Every byte is proven before a tensor is touched. `step`: what was loaded last.
    """

    def __init__(self, url: str) -> None:
        """Nothing is contacted yet. Raises BadUrl."""
        super().__init__()
        self.url, self._asked = split_target(url)
        self._backend = backend_of(self.url)
        self.step: int | None = None
        self._opened: Opened | None = None
        self._fetched: Fetched | None = None

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        self._forget()
        if checkpoint_id is not None:
            self._asked = step_of(checkpoint_id)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return names_a_step(checkpoint_id)

    def read_metadata(self, *args: Any) -> Metadata:  # noqa: ARG002
        """What there is to load. An error is raised by whoever looks into it: DCP would say that there is nothing."""
        self._forget()
        try:
            self._opened = open_newest(self._backend) if self._asked is None else open_step(self._backend, self._asked)
        except StorageError as error:
            return _Unread(error)
        return self._opened.metadata()

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002, FBT001
        if isinstance(metadata, _Unread):
            metadata.complain()

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Read what this rank needs, before anybody is told where to go on: it may turn out to be damaged."""
        opened = self._here
        damage = ""
        try:
            self._fetched = Fetched(opened, requests(opened, plan))
        except Damaged as error:
            if self._asked is not None:
                raise
            damage = str(error)
        plan.storage_data = Seen(opened.manifest.id, damage)
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """On the coordinator: send all ranks to the same checkpoint."""
        chosen = agreed(self._backend, [plan.storage_data for plan in plans])
        for plan in plans:
            plan.storage_data = chosen
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        opened, fetched = self._here, self._fetched
        if plan.storage_data != opened.manifest.id or fetched is None:
            self._forget()
            self._opened = opened = open_attempt(self._backend, plan.storage_data)
            _log.warning("step %d is loaded", opened.manifest.step)
            self._fetched = fetched = Fetched(opened, requests(opened, plan))
        try:
            deliver(opened, fetched, plan, planner)
        finally:
            self._forget()
        self.step = opened.manifest.step
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @property
    def _here(self) -> Opened:
        assert self._opened is not None
        return self._opened

    def _forget(self) -> None:
        if self._fetched is not None:
            self._fetched.close()
        self._fetched = self._opened = None


class _Unread(Metadata):
    """Metadata that could not be read: says why as soon as anybody looks for what is in it."""

    def __init__(self, error: StorageError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> NoReturn:
        self.complain()

    def complain(self) -> NoReturn:
        raise self._error
