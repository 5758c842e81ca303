"""One URL says all about a place on S3 but the credentials, and every error there says what to do."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from itertools import pairwise

import pytest

from relight.storage.backends.open import open_backend
from relight.storage.backends.patience import Patience
from relight.storage.backends.s3 import S3Backend
from relight.storage.backends.s3_place import S3Place
from relight.storage.backends.s3_upload import MAX_PARTS, MIN_PART_BYTES, part_spans
from relight.storage.errors import BadUrl, StorageUnavailable
from relight.tests.proxy import Fault, proxied
from relight.tests.servers import CREDENTIALS, KEY, SECRET, Server, environment, free_ports

CHECK_THEM = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile, and that they are this endpoint's"
ONCE = Patience(retries=0, retries_of_a_stranger=0, deadline_s=10)


@pytest.mark.parametrize(
    ("url", "shown", "prefix"),
    [
        ("s3://bucket", "s3://bucket", ""),
        ("s3://bucket/", "s3://bucket", ""),
        ("s3a://bucket/a/b/", "s3://bucket/a/b", "a/b/"),
        (
            "s3://bucket/run?endpoint_url=http://127.0.0.1:9000&region=eu-west-1",
            "s3://bucket/run?endpoint_url=http://127.0.0.1:9000&region=eu-west-1",
            "run/",
        ),
        (
            "s3://bucket/run?request_checksum_calculation=when_required",
            "s3://bucket/run?request_checksum_calculation=when_required",
            "run/",
        ),
    ],
)
def test_a_place_is_understood_and_its_url_opens_it_again(url: str, shown: str, prefix: str) -> None:
    place = S3Place.parse(url)
    assert (place.url, place.prefix) == (shown, prefix)
    assert S3Place.parse(place.url) == place
    assert open_backend(url).url == shown


@pytest.mark.parametrize(
    ("url", "beginning"),
    [
        (f"s3://{KEY}:{SECRET}@bucket/run", "storage.url must be s3://BUCKET/PREFIX, without user, password or port."),
        (f"s3://{SECRET}@bucket/run", "storage.url must be s3://BUCKET/PREFIX, without user, password or port."),
        ("s3://localhost:9000/bucket", "storage.url must be s3://BUCKET/PREFIX, without user, password or port."),
        ("s3:///run", "storage.url names no bucket; it must be s3://BUCKET/PREFIX"),
        ("s3://bucket/a/../b", "the path of storage.url cannot be one: 'a/../b' is not a storage key"),
        ("s3://bucket/a//b", "the path of storage.url cannot be one: 'a//b' is not a storage key"),
        (f"s3://bucket/run?secret={SECRET}", "storage.url has an option that is not known; there are: endpoint_url, "),
        ("s3://b/r?request_checksum_calculation=no", "request_checksum_calculation in storage.url must be one of: "),
        (f"s3://b/r?endpoint_url=http://{KEY}:{SECRET}@host", "endpoint_url in storage.url must be http://HOST:PORT "),
        ("s3://b/r?endpoint_url=host:9000", "endpoint_url in storage.url must be http://HOST:PORT or https://"),
    ],
)
def test_what_cannot_be_a_place_is_refused_without_quoting_a_secret(url: str, beginning: str) -> None:
    with pytest.raises(BadUrl) as refused:
        open_backend(url)
    assert str(refused.value).startswith(beginning)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("size", [1, MIN_PART_BYTES, MIN_PART_BYTES + 1, 100 << 30, 5 << 40])
def test_parts_cover_the_object_within_the_limits_of_s3(size: int) -> None:
    spans = part_spans(size)
    assert len(spans) <= MAX_PARTS
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert all(end - start >= MIN_PART_BYTES for start, end in spans[:-1])


def test_the_patience_is_bounded_and_spread() -> None:
    patience = Patience()
    waits = [patience.wait_s(retry, size=0, few=False, dice=0.5) for retry in range(patience.retries + 1)]
    assert waits[-1] is None
    assert all(wait is not None and wait <= patience.longest_wait_s for wait in waits[:-1])
    first, spread = (patience.wait_s(0, size=0, few=False, dice=dice) for dice in (0.0, 0.999))
    assert first is not None and spread is not None and spread > 1.9 * first  # noqa: PT018
    assert patience.wait_s(patience.retries_of_a_stranger, size=0, few=True, dice=0.5) is None
    assert patience.wait_s(patience.retries, size=1 << 30, few=False, dice=0.5) is not None
    assert patience.limit_s(600 << 20) == patience.deadline_s + 600


@pytest.mark.needs("weed")
@pytest.mark.parametrize(
    ("changes", "bucket", "text"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            "bucket",
            f"the store answered SignatureDoesNotMatch (403); {CHECK_THEM}",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "nobody"},
            "bucket",
            f"the store answered InvalidAccessKeyId (403); {CHECK_THEM}",
        ),
        (
            {},
            "no-such-bucket",
            "the store answered NoSuchBucket (404); create the bucket, or correct it in storage.url",
        ),
    ],
)
def test_what_the_server_refuses_is_said_with_the_way_out(
    seaweed: Server, changes: dict[str, str], bucket: str, text: str
) -> None:
    with environment({**seaweed.environment, **changes}):
        with pytest.raises(StorageUnavailable) as failed:
            open_backend(f"s3://{bucket}/run").list("")
        assert str(failed.value) == f"cannot list s3://{bucket}/run/: {text}"


def test_without_credentials_the_ways_to_give_some_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_CONFIG_FILE": "/none"}
    with environment(nowhere), pytest.raises(StorageUnavailable) as failed:
        open_backend("s3://bucket/run?endpoint_url=http://127.0.0.1:1").put("key", b"")
    assert str(failed.value) == (
        "cannot write s3://bucket/run/key: no usable credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "or AWS_PROFILE, or give the machine a role (NoCredentialsError)"
    )


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    (port,) = free_ports(1)
    with environment({**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{KEY}:{SECRET}@127.0.0.1:{port}"}):
        backend = S3Backend(S3Place.parse("s3://bucket/run"), ONCE)
        with pytest.raises(StorageUnavailable) as failed:
            backend.list("")
    said = str(failed.value)
    assert said.startswith(f"cannot list s3://bucket/run/: http://127.0.0.1:{port} did not answer (")
    assert said.endswith(
        "); check the network, and the endpoint (?endpoint_url=... in storage.url, or AWS_ENDPOINT_URL)"
    )


@pytest.mark.needs("weed")
def test_a_bit_that_flips_on_the_way_is_fetched_again(seaweed: Server) -> None:
    from relight.storage.catalog import Catalog
    from relight.storage.verify import verify
    from relight.tests.storage.checkpoints import attempt_id, save

    prefix, asked = uuid.uuid4().hex, Counter[str]()
    with environment(seaweed.environment), proxied(seaweed.endpoint_url) as proxy:
        save(seaweed.backend(prefix), attempt_id(10))

        def every_other_time(method: str, path: str) -> Fault | None:
            """Of each object: several are read at once."""
            if method != "GET" or "list-type" in path:
                return None
            asked[path] += 1
            return Fault.FLIPPED if asked[path] % 2 else None

        proxy.choose = every_other_time
        backend = S3Backend(seaweed.place(prefix, proxy.endpoint_url))
        checkpoint = Catalog(backend).find()
        assert checkpoint.step == 10
        assert verify(backend, checkpoint.manifest) == []
        assert proxy.fired[Fault.FLIPPED] >= 3
