"""Saves are persisted beside the training, in its process: a retry must not draw from the training's generators."""

from __future__ import annotations

import asyncio
import random

import pytest

from relight.storage.backends.patience import Budget, Contact, Patience
from relight.storage.backends.s3 import S3Backend
from relight.storage.backends.s3_place import S3Place
from relight.storage.errors import StorageUnavailable
from relight.tests.servers import CREDENTIALS, environment, free_ports


def test_a_retry_leaves_the_generator_of_the_training_alone() -> None:
    """Found by killing an S3 server: a data set that used `random` was given other numbers in the step of a retry."""
    known = Contact(Patience(first_wait_s=0.001))
    known.heard()
    before = random.getstate()
    asyncio.run(Budget(known).pause(OSError()))
    assert random.getstate() == before


def test_a_store_that_is_down_leaves_the_generator_of_the_training_alone(unused_tcp_url: str) -> None:
    impatient = Patience(first_wait_s=0.001, longest_wait_s=0.001, retries=3, retries_of_a_stranger=3)
    place = S3Place(bucket="bucket", prefix="run/", endpoint_url=unused_tcp_url)
    with environment(CREDENTIALS):
        before = random.getstate()
        with pytest.raises(StorageUnavailable):
            S3Backend(place, impatient).put("key", b"data")
        assert random.getstate() == before


@pytest.fixture
def unused_tcp_url() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}"
