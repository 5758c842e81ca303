"""A put to S3 has one outcome, and it is the true one: whatever becomes of its requests and of their replies."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from relight.storage.backends.patience import Patience
from relight.storage.backends.s3 import S3Backend
from relight.storage.backends.s3_client import S3Client
from relight.storage.errors import AlreadyExists, StorageUnavailable
from relight.tests.proxy import Fault, Proxy, proxied
from relight.tests.servers import Server, environment

pytestmark = pytest.mark.needs("weed")

QUICK = Patience(
    connect_timeout_s=1, read_timeout_s=1, deadline_s=30, retries=6, first_wait_s=0.01, longest_wait_s=0.05
)
SMALL, LARGE = b"small", bytes(range(256)) * (20 << 12)


@pytest.fixture
def proxy(seaweed: Server) -> Iterator[Proxy]:
    with environment(seaweed.environment), proxied(seaweed.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def backend(seaweed: Server, proxy: Proxy, prefix: str) -> S3Backend:
    return S3Backend(seaweed.place(prefix, proxy.endpoint_url), QUICK)


def is_the_last(method: str, path: str) -> bool:
    """The request that makes an object exist."""
    return (method == "PUT" and "partNumber" not in path) or (method == "POST" and "uploads" not in path)


def once(fault: Fault, where: Callable[[str, str], bool]) -> Callable[[str, str], Fault | None]:
    left = [fault]
    return lambda method, path: left.pop() if left and where(method, path) else None


def uploads(seaweed: Server, prefix: str) -> list[str]:
    """Multipart uploads that were begun there and neither completed nor aborted."""
    prefix = prefix.removeprefix("s3://bucket/").partition("?")[0]
    client = S3Client(seaweed.place(prefix), QUICK)
    reply = client.run(client.call("list_multipart_uploads", Prefix=prefix), 10)
    return [each["Key"] for each in reply.get("Uploads", ())]


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one request", "parts"])
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.FLIPPED])
def test_a_fault_at_the_last_request_changes_nothing_for_the_caller(
    seaweed: Server, proxy: Proxy, backend: S3Backend, data: bytes, fault: Fault
) -> None:
    for overwrite in (False, True):
        fired = proxy.fired[fault]
        proxy.choose = once(fault, is_the_last)
        backend.put(f"key {overwrite}", data, overwrite=overwrite)
        assert proxy.fired[fault] == fired + 1
        assert backend.read(f"key {overwrite}") == data
        assert uploads(seaweed, backend.url) == []


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one request", "parts"])
@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.ERROR_AFTER, Fault.CONFLICT, Fault.SLOW_DOWN])
def test_anothers_object_is_never_taken_for_ours(
    seaweed: Server, proxy: Proxy, backend: S3Backend, prefix: str, data: bytes, fault: Fault
) -> None:
    """Not even one of the same bytes: every put carries a token of its own."""
    seaweed.backend(prefix).put("key", data)
    proxy.choose = once(fault, is_the_last)
    with pytest.raises(AlreadyExists):
        backend.put("key", data)
    assert uploads(seaweed, prefix) == []


def test_the_lost_reply_of_a_commit_is_settled_every_time(proxy: Proxy, backend: S3Backend) -> None:
    """The manifest's PUT is done and its reply lost, every time; our own 412 comes back from the next try."""
    rounds = 25
    for round_ in range(rounds):
        proxy.choose = once(Fault.LOST_REPLY, is_the_last)
        backend.put(f"{round_}/manifest.json", b"ours %d" % round_)
        assert backend.read(f"{round_}/manifest.json") == b"ours %d" % round_
        proxy.choose = once(Fault.LOST_REPLY, is_the_last)
        with pytest.raises(AlreadyExists):
            backend.put(f"{round_}/manifest.json", b"another's")
        assert backend.read(f"{round_}/manifest.json") == b"ours %d" % round_
    print(f"{proxy.fired[Fault.LOST_REPLY]} replies lost, 0 wrong outcomes")
    assert proxy.fired[Fault.LOST_REPLY] >= rounds


def test_of_3_writers_whose_replies_are_lost_one_wins_and_knows_it(seaweed: Server, proxy: Proxy, prefix: str) -> None:
    turn = itertools.count()

    def every_other(method: str, path: str) -> Fault | None:
        return Fault.ERROR_AFTER if is_the_last(method, path) and next(turn) % 2 else None

    proxy.choose = every_other
    for round_ in range(8):
        start = threading.Barrier(3)

        def put(number: int, key: str = f"{round_}", start: threading.Barrier = start) -> bool:
            backend = S3Backend(seaweed.place(prefix, proxy.endpoint_url), QUICK)
            start.wait(10)
            try:
                backend.put(key, bytes([number]) * 10)
            except AlreadyExists:
                return False
            return True

        # In one request: neither SeaweedFS nor moto completes concurrent multipart uploads exclusively, and nothing
        # that Relight sends in parts has a name that another writer could take.
        with ThreadPoolExecutor(3) as pool:
            won = list(pool.map(put, range(3)))
        assert sum(won) == 1
        assert seaweed.backend(prefix).read(f"{round_}", 0, 1) == bytes([won.index(True)])


def test_an_upload_that_fails_for_good_is_aborted(
    seaweed: Server, proxy: Proxy, backend: S3Backend, prefix: str
) -> None:
    proxy.choose = lambda method, path: Fault.ERROR_500 if "partNumber=2" in path else None
    with pytest.raises(StorageUnavailable) as failed:
        backend.put("key", LARGE)
    assert str(failed.value) == (
        f"cannot write s3://bucket/{prefix}/key: the store answered InternalError (500) each time; "
        "it is overloaded or in trouble: try again later"
    )
    proxy.choose = lambda method, path: None
    assert backend.list("") == []
    assert uploads(seaweed, prefix) == []


def test_an_upload_that_a_person_interrupts_is_aborted_at_once(
    seaweed: Server, proxy: Proxy, backend: S3Backend, prefix: str
) -> None:
    backend.put("first", SMALL)

    def interrupt_the_second_part(method: str, path: str) -> Fault | None:
        if "partNumber=2" not in path:
            return None
        os.kill(os.getpid(), signal.SIGINT)
        return Fault.SILENCE

    proxy.choose = interrupt_the_second_part
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        backend.put("key", LARGE)
    took_s = time.monotonic() - began
    assert any("uploads" in request for request in proxy.requests), "nothing was begun"
    assert any(request.startswith("DELETE") for request in proxy.requests)
    assert uploads(seaweed, prefix) == []
    assert [entry.key for entry in backend.list("")] == ["first"]
    assert took_s < 5


def test_large_objects_are_sent_in_parts_and_small_ones_in_one_request(proxy: Proxy, backend: S3Backend) -> None:
    backend.put("small", SMALL)
    assert [request.split(" ")[0] for request in proxy.requests] == ["PUT"]
    proxy.requests.clear()
    backend.put("large", LARGE)
    assert sum("partNumber" in request for request in proxy.requests) == 3


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in {Fault.FLIPPED, Fault.CONFLICT}])
@pytest.mark.parametrize("act", ["read", "list", "size", "delete"])
def test_what_only_asks_or_removes_is_tried_again(proxy: Proxy, backend: S3Backend, fault: Fault, act: str) -> None:
    data = LARGE if act == "read" else SMALL
    backend.put("folder/key", data)
    proxy.choose = once(fault, lambda method, path: True)
    if act == "list":
        assert [entry.key for entry in backend.list("folder/")] == ["folder/key"]
    elif act == "read":
        assert backend.read("folder/key") == data
    elif act == "size":
        assert backend.size("folder/key") == len(data)
    else:
        backend.delete("folder/key")
        assert backend.list("folder/") == []
    assert proxy.fired[fault] == 1
