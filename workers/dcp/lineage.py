"""What the coordinator alone does: whose saves these are, how each is called, its commit, and what may go after it."""

from __future__ import annotations

import functools
import os
import secrets
import socket
import uuid
from collections.abc import Sequence

from ...storage import generations, runs, sweep
from ...storage.backends.base import Backend
from ...storage.backends.open import open_backend
from ...storage.catalog import Catalog
from ...storage.commit import SaveJob, commit
from ...storage.errors import OtherRun
from ...storage.layout import AttemptId
from ...storage.manifest import Manifest, Progress
from ...storage.receipts import Receipt
from ...storage.retention import Rules
from .staging import Place

KEEP_ALL = 1 << 31


class Lineage:
    """Of all saves of one job to one URL, in this process. `token` tells its commits from those of others."""

    def __init__(self, backend: Backend, incarnation: str, *, resumed_from: int | None, single_writer: bool) -> None:
        """Raises StorageError when this storage cannot be written to, or not by this job."""
        self._backend = backend
        self.token = uuid.uuid4().hex
        self.run = _own(runs.register(backend, {}, single_writer=single_writer), backend)
        there = [attempt.step for attempt in Catalog(backend).attempts()]
        # Unless it is said, this job rules nothing out: of what is there the highest step is the newest, as with DCP.
        self._generation = generations.claim(
            backend,
            incarnation=incarnation,
            resumed_from=max(there, default=None) if resumed_from is None else resumed_from,
            host=socket.gethostname(),
        ).number
        self._newest: list[AttemptId] = []
        """The last that this lineage has committed: a listing without it is not to be believed."""
        self._failed = False

    def begin(self, step: int | None) -> AttemptId:
        """The name of the next save: of the step after the newest, unless one is given.

        Raises Superseded when a later job saves here.
        """
        generations.refuse_if_superseded(self._backend, self._generation)
        catalog = Catalog(self._backend)
        ours = [attempt.attempt for attempt in catalog.attempts() if attempt.generation == self._generation]
        if step is None:
            newest = next(catalog.committed(), None)
            step = 1 if newest is None else newest.step + 1
        # A later save of the same step comes after the earlier one, and never over it.
        now = AttemptId(step, self._generation, max(ours, default=0) + 1, secrets.token_hex(3))
        if self._failed:  # What it left may be what a full disk is full of.
            sweep.give_up(self._backend, now, own=self._newest)
        self._failed = True
        return now

    def finish(self, place: Place, receipts: Sequence[Receipt], rules: Rules) -> Manifest:
        """Make the checkpoint exist, then let go of what need not stay. Raises StorageError; then there is none."""
        made = commit(self._backend, job(place, rules), list(receipts))
        self._failed = False
        self._newest = [place.id]
        sweep.maintain(self._backend, place.id, rules, own=self._newest)
        return made


def _own(record: runs.RunRecord, backend: Backend) -> str:
    """The run's id. One that has a name is trained by `relight run`, or a Checkpointer: it would be superseded."""
    if record.identity:
        named = ", ".join(f"{key}={value}" for key, value in sorted(record.identity.items()))
        raise OtherRun(f"{backend.url} holds a run that is not DCP's ({named}). Give the Writer a URL of its own")
    return record.run


def job(place: Place, rules: Rules) -> SaveJob:
    """One rank's part of a save, as storage wants it said. Nobody waits for receipts here: DCP brings them."""
    return SaveJob(
        id=place.id,
        run=place.run,
        token=place.token,
        rank=place.rank,
        world_size=place.world_size,
        progress=Progress(epoch=0, step=place.id.step, samples=0),
        deadline_s=0.0,
        rules=rules,
    )


def backend_of(url: str) -> Backend:
    """This process's; none crosses a fork."""
    return _backend(os.getpid(), url)


def lineage_of(url: str, incarnation: str, *, resumed_from: int | None, single_writer: bool) -> Lineage:
    """This process's lineage there. A start that failed is tried again by the next save."""
    return _lineage(os.getpid(), url, incarnation, resumed_from, single_writer)


@functools.cache
def _backend(_pid: int, url: str) -> Backend:
    return open_backend(url)


@functools.cache
def _lineage(pid: int, url: str, incarnation: str, resumed_from: int | None, single_writer: bool) -> Lineage:  # noqa: FBT001
    return Lineage(_backend(pid, url), incarnation, resumed_from=resumed_from, single_writer=single_writer)


def rules_of(keep_last: int | None) -> Rules:
    """Raises ValueError for a number that cannot be."""
    return Rules(keep_last=KEEP_ALL if keep_last is None else keep_last)
