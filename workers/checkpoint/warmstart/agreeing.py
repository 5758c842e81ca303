"""On all ranks or on none: what fails on one rank is heard, and raised, by every one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from ....storage.errors import StorageError, StorageUnavailable
from ...errors import BadWeights, StateMismatch, StorageTrouble, WorkerError
from ..collective import Circle

T = TypeVar("T")

_KINDS: tuple[type[WorkerError], ...] = (BadWeights, StateMismatch, StorageTrouble)


def agreed(circle: Circle, act: Callable[[], T]) -> T:
    """What `act` returned on this rank, once it has ended well on all of them. A collective.

    Raises:
        BadWeights, StateMismatch, StorageTrouble: on every rank alike, with what each of them met.
    """
    failure = ""
    bug: Exception | None = None
    try:
        result = act()
    except WorkerError as error:
        failure = _packed(type(error), str(error))
    except StorageUnavailable as error:
        failure = _packed(StorageTrouble, f"init_from: {error}")
    except StorageError as error:
        failure = _packed(BadWeights, f"init_from: {str(error).replace('storage.url', 'the source')}")
    except OSError as error:
        failure = _packed(BadWeights, f"init_from: {error.filename or 'the source'} cannot be read: {error.strerror}")
    except Exception as error:  # noqa: BLE001 -- raised again below: the others must not wait for a rank with a bug
        bug = error
        failure = _packed(BadWeights, f"init_from: {type(error).__name__}: {error}")
    failures = {rank: json.loads(told) for rank, told in enumerate(circle.exchange(failure)) if told}
    if bug is not None:
        raise bug
    if failures:
        _raise(failures, circle.size)
    return result


def _packed(kind: type[WorkerError], message: str) -> str:
    known = next((each for each in _KINDS if issubclass(kind, each)), BadWeights)
    return json.dumps([known.__name__, message])


def _raise(failures: dict[int, tuple[str, str]], ranks: int) -> None:
    """One rank's kind of error, and each different message once; with the rank where not all have met it."""
    kind = next(each for each in _KINDS if each.__name__ in {name for name, _ in failures.values()})
    messages: dict[str, list[int]] = {}
    for rank, (_, message) in failures.items():
        messages.setdefault(message, []).append(rank)
    if len(messages) == 1 and len(failures) == ranks:
        raise kind(next(iter(messages)))
    raise kind("; ".join(f"rank {', '.join(map(str, who))}: {message}" for message, who in messages.items()))
