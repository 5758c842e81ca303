"""Saves through a network that fails six requests in ten: what is said to be committed is, and nothing else."""

from __future__ import annotations

import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from relight.storage.backends.base import Backend
from relight.storage.backends.patience import Patience
from relight.storage.backends.s3 import S3Backend
from relight.storage.catalog import Catalog, Standing
from relight.storage.persist import Outcome
from relight.storage.verify import verify
from relight.tests.proxy import Fault, proxied
from relight.tests.servers import Server, environment
from relight.tests.storage.checkpoints import attempt_id, persist_rank

pytestmark = pytest.mark.needs("weed")

FAULTS: Final = (
    Fault.ERROR_500,
    Fault.SLOW_DOWN,
    Fault.RESET,
    Fault.LOST_REPLY,
    Fault.TRUNCATED,
    Fault.SILENCE,
)
SHARE: Final = 0.1
"""Of the requests, for each of the faults."""

STUBBORN: Final = Patience(
    connect_timeout_s=1, read_timeout_s=0.3, deadline_s=60, retries=40, first_wait_s=0.005, longest_wait_s=0.05
)
RUNS_AT_ONCE: Final = 4


@pytest.mark.parametrize(
    "saves",
    [
        pytest.param(24, id="24 saves"),
        pytest.param(300, id="300 saves", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_no_save_is_lost_doubled_or_wrongly_reported_when_six_requests_in_ten_fail(
    seaweed: Server, saves: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    prefix = uuid.uuid4().hex
    with environment(seaweed.environment), proxied(seaweed.endpoint_url) as proxy:

        def choose(method: str, path: str) -> Fault | None:
            number = int(dice.random() / SHARE)
            return FAULTS[number] if number < len(FAULTS) else None

        proxy.choose = choose

        def train(number: int) -> dict[int, Outcome]:
            backend = S3Backend(seaweed.place(f"{prefix}/{number}", proxy.endpoint_url), STUBBORN)
            return {step: _save(backend, step) for step in range(1, saves // RUNS_AT_ONCE + 1)}

        with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
            said = list(pool.map(train, range(RUNS_AT_ONCE)))
        committed = sum(_compare(seaweed.backend(f"{prefix}/{number}"), said[number]) for number in range(RUNS_AT_ONCE))
        counts = ", ".join(f"{fault.name} {count}" for fault, count in sorted(proxy.fired.items()))
        with capsys.disabled():
            print(f"\nseed {seed}: {saves} saves, {committed} committed; {len(proxy.requests)} requests met {counts}")
            print("0 lost, 0 doubled, 0 wrongly reported")
    assert committed >= saves * 0.9, "most saves must get through"
    assert all(proxy.fired[fault] for fault in FAULTS)


def _save(backend: Backend, step: int) -> Outcome:
    """Both ranks' share; rank 0's outcome."""
    persist_rank(backend, attempt_id(step), 1)
    return persist_rank(backend, attempt_id(step), 0)


def _compare(backend: Backend, said: dict[int, Outcome]) -> int:
    """How many checkpoints there are, each announced, each proven, and each that was announced among them."""
    found = {}
    for listed in Catalog(backend).listing():
        if listed.standing is Standing.COMMITTED:
            assert listed.id.step not in found, "committed twice"
            assert listed.manifest is not None
            found[listed.id.step] = listed.manifest
    assert set(found) == {step for step, outcome in said.items() if outcome.committed}
    for manifest in found.values():
        assert verify(backend, manifest) == []
    return len(found)
