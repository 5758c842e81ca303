"""The one way in which tests wait."""

from __future__ import annotations

import threading
import time

import pytest

from relight.tests.waiting import wait_until


def test_the_awaited_value_is_returned_as_soon_as_it_is_there() -> None:
    done = threading.Event()
    threading.Timer(0.05, done.set).start()
    assert wait_until(lambda: done.is_set() and "done", deadline_s=30) == "done"


def test_a_condition_that_never_holds_fails_at_the_deadline_and_says_what_was_awaited() -> None:
    started_at = time.monotonic()
    with pytest.raises(AssertionError) as failed:
        wait_until(lambda: 0, deadline_s=0.05, what="a miracle")
    assert str(failed.value) == "waited 0.05 s for a miracle; the last value was 0"
    assert time.monotonic() - started_at < 10


def test_a_condition_that_holds_is_not_too_late() -> None:
    assert wait_until(lambda: 1, deadline_s=0) == 1
