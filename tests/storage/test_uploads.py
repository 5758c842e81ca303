"""What a machine that was switched off left half uploaded is aborted, and nothing else is."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relight.storage.backends.base import Upload
from relight.storage.backends.local import LocalBackend
from relight.storage.backends.patience import Patience
from relight.storage.backends.s3_client import S3Client
from relight.storage.uploads import GRACE, clear, dangling
from relight.tests.servers import Server, environment
from relight.tests.storage.checkpoints import attempt_id

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OLD = NOW - GRACE - timedelta(seconds=1)
EARLIER = attempt_id(10, generation=1)
CURRENT = attempt_id(20, generation=2)


@pytest.mark.parametrize(
    ("key", "begun", "goes"),
    [
        (EARLIER.shard_key(0, 2), OLD, True),
        (EARLIER.shard_key(0, 2), NOW - GRACE, False),
        (CURRENT.shard_key(0, 2), OLD, False),
        (attempt_id(5, generation=3).shard_key(0, 2), OLD, False),
        (f"{EARLIER.folder}notes.txt", OLD, False),
        (f"checkpoints/{EARLIER.name}.backup/rank-00000-of-00002.safetensors", OLD, False),
        (f"elsewhere/{EARLIER.name}/rank-00000-of-00002.safetensors", OLD, False),
    ],
)
def test_only_old_uploads_of_shards_of_earlier_generations_go(key: str, begun: datetime, goes: bool) -> None:  # noqa: FBT001
    upload = Upload(key, "id", begun)
    assert dangling([upload], CURRENT, NOW) == ([upload] if goes else [])


def test_a_backend_without_uploads_has_none_to_clear(tmp_path: Path) -> None:
    assert clear(LocalBackend(tmp_path), CURRENT) == []


@pytest.mark.needs("weed")
def test_an_abandoned_upload_is_aborted_on_a_real_server(seaweed: Server) -> None:
    prefix = uuid.uuid4().hex
    with environment(seaweed.environment):
        backend, client = seaweed.backend(prefix), S3Client(seaweed.place(prefix), Patience())
        for attempt in (EARLIER, CURRENT):
            key = f"{prefix}/{attempt.shard_key(0, 2)}"
            client.run(client.call("create_multipart_upload", Key=key), 10)
        assert clear(backend, CURRENT) == []
        cleared = clear(backend, CURRENT, at=datetime.now(UTC) + 2 * GRACE)
        assert [upload.key for upload in cleared] == [EARLIER.shard_key(0, 2)]
        assert [upload.key for upload in backend.uploads("checkpoints/")] == [CURRENT.shard_key(0, 2)]
