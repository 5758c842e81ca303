"""Which run a URL belongs to. Two different runs never share one."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping

from .backends.base import Backend
from .errors import AlreadyExists, Damaged, NotFound, OtherRun
from .layout import RUN_KEY
from .manifest import Record
from .probe import probe

Identity = Mapping[str, str | int]


class RunRecord(Record):
    """`run` is a random id; `identity` is what must be equal for a start to count as the same run."""

    run: str
    identity: dict[str, str | int]


def register(backend: Backend, identity: Identity, *, single_writer: bool = False) -> RunRecord:
    """Create the run's record, or check that the one there describes this run.

    Only the keys that both sides give are compared, so a script that names nothing may continue any run.

    Raises:
        OtherRun: the URL holds another run; the message names what differs. Nothing was written.
        StorageUnavailable, NotExclusive: as `check` does; then there is no record either.
    """
    found = check(backend, identity, single_writer=single_writer)
    if found is None:
        record = RunRecord(run=uuid.uuid4().hex, identity=dict(identity))
        try:
            backend.put(RUN_KEY, record.to_bytes())
        except AlreadyExists:
            found = read(backend)  # Started twice at once: the first record is the run's, for both.
            _compare(backend, found, identity)
        else:
            return record
    backend.settle("")  # Whoever put it may have been killed before it was durable; from here on it is built on.
    return found


def check(backend: Backend, identity: Identity, *, single_writer: bool = False) -> RunRecord | None:
    """May this run use this storage, and is the storage fit? It is left as it was; returns the run's record, if any.

    Raises:
        OtherRun: the URL holds another run.
        StorageUnavailable: nothing can be written there.
        NotExclusive: it does not refuse a second write, and `single_writer` was not vouched for.
    """
    # One that is not there is not made here: a misspelt task would own the URL. The first worker that builds it does.
    found = None
    with contextlib.suppress(NotFound):
        found = read(backend)
        _compare(backend, found, identity)
    probe(backend, single_writer=single_writer)
    return found


def read(backend: Backend) -> RunRecord:
    """The run at this URL; raises `NotFound` when there is none and `Damaged` when its record cannot be trusted."""
    try:
        return RunRecord.load(backend, RUN_KEY)
    except Damaged as error:
        advice = f"Put it back from a copy, or choose another storage.url than {backend.url}"
        raise Damaged(error.key, f"{error.reason}. {advice}") from None


def _compare(backend: Backend, found: RunRecord, identity: Identity) -> None:
    differing = [key for key in sorted(identity.keys() & found.identity.keys()) if found.identity[key] != identity[key]]
    if differing:
        there = ", ".join(f"{key}={found.identity[key]}" for key in differing)
        here = ", ".join(f"{key}={identity[key]}" for key in differing)
        message = (
            f"{backend.url} holds another run ({there}; this one has {here}). "
            "Nothing was changed. Choose another storage.url, or start the run that is there"
        )
        raise OtherRun(message)
