"""A store that is down is insisted on, told of, and given up once: what comes after a failed save wastes no time."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pytest

from relight.storage.backends.base import Bytes
from relight.storage.backends.patience import Patience
from relight.storage.backends.s3 import S3Backend
from relight.storage.errors import StorageError, StorageUnavailable
from relight.tests.proxy import Fault, Proxy, proxied
from relight.tests.servers import Server, environment
from relight.tests.storage.checkpoints import attempt_id, persist_rank

pytestmark = pytest.mark.needs("weed")

RETRIES = 6
"""Half of the usual, in 3 to 6 s. The times after an operation was given up are the usual ones."""


@pytest.fixture
def proxy(seaweed: Server) -> Iterator[Proxy]:
    with environment(seaweed.environment), proxied(seaweed.endpoint_url) as proxy:
        yield proxy


class Stopwatch(S3Backend):
    """Notes when the first put was given up."""

    failed_s: float = 0.0

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        try:
            super().put(key, data, overwrite=overwrite)
        except StorageError:
            self.failed_s = self.failed_s or time.monotonic()
            raise


def opened(seaweed: Server, proxy: Proxy, patience: Patience) -> Stopwatch:
    backend = Stopwatch(seaweed.place(uuid.uuid4().hex, proxy.endpoint_url), patience)
    backend.put("known", b"")
    return backend


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_a_store_that_falls_silent_is_told_of_once_while_it_is_insisted_on(
    seaweed: Server, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    patience = Patience(silent_s=0.2, first_wait_s=0.02, longest_wait_s=0.3)
    backend = opened(seaweed, proxy, patience)
    for _ in range(2):
        caplog.clear()
        began, told_after = time.monotonic(), Patience().deadline_s

        def choose(method: str, path: str, began: float = began) -> Fault | None:
            return Fault.RESET if time.monotonic() - began < 3 * patience.silent_s else None

        proxy.choose = choose
        started = time.time()
        backend.put(f"{uuid.uuid4().hex}", b"data")
        (said,) = warnings(caplog)
        told_after = caplog.records[0].created - started
        assert re.fullmatch(
            rf"{re.escape(backend._place.location(''))}: {proxy.endpoint_url} did not answer \(\w+\); "
            r"check the network, and the endpoint \(.*\)\. Nothing has come through for 0\.2 s; "
            r"it is tried again until \d\d:\d\d:\d\d at the latest",
            said,
        )
        assert patience.silent_s <= told_after < 2 * patience.silent_s


def test_an_outage_that_ends_before_it_is_worth_a_word_is_not_told_of(
    seaweed: Server, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    backend, left = opened(seaweed, proxy, Patience(first_wait_s=0.01)), [Fault.RESET] * 4
    proxy.choose = lambda method, path: left.pop() if left else None
    backend.put("key", b"data")
    assert warnings(caplog) == []


@dataclass(frozen=True)
class GivenUp:
    failed: str
    insisted_s: float
    over_s: float
    """From the first put that was given up to the end of the save."""


def save_in_vain(seaweed: Server, fault: Fault, rank: int) -> GivenUp:
    quiet = fault is Fault.SILENCE  # Each request is waited for.
    with proxied(seaweed.endpoint_url) as proxy:
        backend = opened(seaweed, proxy, Patience(read_timeout_s=4, retries=1) if quiet else Patience(retries=RETRIES))
        proxy.choose = lambda method, path: fault
        began = time.monotonic()
        outcome = persist_rank(backend, attempt_id(10), rank)
        return GivenUp(outcome.failed, backend.failed_s - began, time.monotonic() - backend.failed_s)


OUTAGES: Final = ((Fault.RESET, 0), (Fault.RESET, 1), (Fault.SLOW_DOWN, 0), (Fault.SILENCE, 0))


@pytest.fixture(scope="module")
def given_up(seaweed: Server) -> dict[tuple[Fault, int], GivenUp]:
    """All at once: nearly all of their time is waited."""
    with environment(seaweed.environment), ThreadPoolExecutor(len(OUTAGES)) as pool:
        saves = {outage: pool.submit(save_in_vain, seaweed, *outage) for outage in OUTAGES}
        return {outage: save.result() for outage, save in saves.items()}


@pytest.mark.parametrize(("fault", "rank"), OUTAGES)
def test_a_failed_save_is_known_soon_after_its_put_was_given_up(
    given_up: dict[tuple[Fault, int], GivenUp], fault: Fault, rank: int, capsys: pytest.CaptureFixture[str]
) -> None:
    save = given_up[fault, rank]
    assert save.failed.startswith("cannot write s3://bucket/")
    with capsys.disabled():
        print(
            f"\n{fault}: rank {rank}'s put was insisted on for {save.insisted_s:.1f} s, "
            f"and the save was over {save.over_s:.1f} s after it"
        )
    assert save.over_s < 10


def test_a_store_that_was_given_up_and_is_back_is_insisted_on_as_before(seaweed: Server, proxy: Proxy) -> None:
    backend = opened(seaweed, proxy, Patience(first_wait_s=0.01, longest_wait_s=0.02))
    proxy.choose = lambda method, path: Fault.SLOW_DOWN
    with pytest.raises(StorageUnavailable):
        backend.put("key", b"data")
    asked = len(proxy.requests)
    with pytest.raises(StorageUnavailable):
        backend.delete("key")
    assert len(proxy.requests) - asked == 1 + Patience().retries_of_a_stranger
    proxy.choose = lambda method, path: None
    assert backend.list("") != []
    left = [Fault.SLOW_DOWN] * (Patience().retries_of_a_stranger + 1)
    proxy.choose = lambda method, path: left.pop() if left else None
    backend.put("key", b"data")
    assert left == []
