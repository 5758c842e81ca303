"""Waiting in tests: for a condition, up to a deadline, never for a fixed time.

`from relight.tests.waiting import wait_until`
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_S: Final = 0.01

T = TypeVar("T")


def wait_until(condition: Callable[..., T | Literal[False] | None], *, deadline_s: float = 30.0, what: str = "") -> T:
    """The first truthy value of `condition`, asked again every 10 ms; AssertionError after `deadline_s` seconds.

    `what` says in the failure's text what was waited for.
    """
    never, ends_at = threading.Event(), time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() >= ends_at:
            raise AssertionError(f"waited {deadline_s:g} s for {what or repr(condition)}; the last value was {value!r}")
        never.wait(POLL_S)
    return value
