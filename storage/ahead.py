"""Work that several threads do a little ahead of whoever wants its results, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD: Final = 16


def in_order(pool: Executor | None, act: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(act, items)`, by the pool's threads, of which no more than so many are begun before they are wanted.

    Whatever ends it, what was not begun is not begun any more. Without a pool the caller does the work.
    """
    if pool is None:
        yield from map(act, items)
        return
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(act, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
