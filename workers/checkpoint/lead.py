"""What rank 0 does for all: it alone talks to the storage's catalog, and every rank hears the same answer or error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ...storage.errors import BadUrl, Damaged, NotExclusive, OtherRun, StorageError, Superseded
from ..errors import Fenced, StorageRefused, StorageTrouble, WorkerError
from .collective import Circle

_REFUSALS: tuple[tuple[type[StorageError], type[WorkerError]], ...] = (
    (Superseded, Fenced),
    (OtherRun, StorageRefused),
    (NotExclusive, StorageRefused),
    (BadUrl, StorageRefused),
    (Damaged, StorageRefused),
    (StorageError, StorageTrouble),
)


def from_rank_zero(circle: Circle, act: Callable[[], Any]) -> Any:
    """What `act`, run on rank 0 alone, returned (JSON), on every rank. A collective.

    Raises on every rank alike, so that none is left waiting:
        Fenced: a newer launcher goes on with this run.
        StorageRefused: the URL, or what is there, does not belong to this run.
        StorageTrouble: the storage did not answer.
    """
    answer: dict[str, Any] = {}
    if circle.rank == 0:
        try:
            answer = {"result": act()}
        except StorageError as error:
            answer = {"refusal": _refusal(error).__name__, "message": str(error)}
    answer = json.loads(circle.tell(json.dumps(answer).encode()))
    if "refusal" not in answer:
        return answer["result"]
    by_name = {refusal.__name__: refusal for _, refusal in _REFUSALS}
    raise by_name[answer["refusal"]](answer["message"])


def _refusal(error: StorageError) -> type[WorkerError]:
    return next(refusal for kind, refusal in _REFUSALS if isinstance(error, kind))
