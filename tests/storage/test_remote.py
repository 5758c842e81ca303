"""Other fsspec filesystems: what cannot be served is refused with the way out, and errors are told in our words."""

from __future__ import annotations

import uuid

import pytest

from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.storage.errors import BadUrl, NotFound, StorageUnavailable
from relight.tests.storage.checkpoints import attempt_id, save, steps


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (
            "gopher://x/y",
            "gopher:// is not a kind of storage that is served; use a local path, s3:// or what else fsspec opens",
        ),
        (
            "simplecache::memory://x",
            (
                "simplecache::memory:// is not a kind of storage that is served; "
                "use a local path, s3:// or what else fsspec opens"
            ),
        ),
        ("oci://bucket/run", "oci:// needs a package that is not installed: pip install ocifs"),
        (
            "ftp://user:canary@host/x",
            (
                "storage.url must hold neither user, password nor options; leave credentials to the environment, "
                "as fsspec's ftp filesystem finds them there"
            ),
        ),
        (
            "memory://x?secret=canary",
            (
                "storage.url must hold neither user, password nor options; leave credentials to the environment, "
                "as fsspec's memory filesystem finds them there"
            ),
        ),
        (
            "memory://a/../b",
            (
                "the path of storage.url cannot be one: 'a/../b' is not a storage key: "
                "it must be a relative path of plain names"
            ),
        ),
    ],
)
def test_what_cannot_be_served_is_refused_without_quoting_a_secret(url: str, text: str) -> None:
    with pytest.raises(BadUrl) as refused:
        open_backend(url)
    assert str(refused.value) == text


def test_a_run_in_memory_lasts_as_long_as_its_process() -> None:
    url = f"memory://{uuid.uuid4().hex}/run"
    save(open_backend(url), attempt_id(10))
    assert steps(open_backend(url)) == [10]
    assert Catalog(open_backend(url)).find().step == 10
    with pytest.raises(NotFound):
        Catalog(open_backend(f"{url}2")).find()


def test_a_filesystem_that_cannot_write_says_so() -> None:
    with pytest.raises(StorageUnavailable) as failed:
        open_backend("data://run").put("key", b"")
    assert str(failed.value) == (
        "cannot write data://run/key: ValueError; "
        "check credentials, permissions and the network, or choose another storage.url"
    )
