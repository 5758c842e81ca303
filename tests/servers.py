"""Real S3 servers for tests, from the package registry: SeaweedFS, moto, and rclone, which is one of the bad ones.

`from relight.tests.servers import seaweedfs`. Each runs on free ports of its own and is gone when its context ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relight.storage.backends.patience import Patience
from relight.storage.backends.s3 import S3Backend
from relight.storage.backends.s3_client import S3Client
from relight.storage.backends.s3_errors import FOREIGN
from relight.storage.backends.s3_place import S3Place
from relight.storage.errors import StorageError
from relight.tests.waiting import wait_until

BUCKET: Final = "bucket"
KEY: Final = "canary-access-key"
SECRET: Final = "canary-secret-key"
_IMPATIENT: Final = Patience(connect_timeout_s=1, read_timeout_s=5, deadline_s=5, retries_of_a_stranger=0)


CREDENTIALS: Final[Mapping[str, str]] = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True, slots=True)
class Server:
    """An S3 server with an empty bucket. `process` is what answers."""

    endpoint_url: str
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """What a program must find in its environment to use this server."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint_url}

    def place(self, prefix: str, endpoint_url: str | None = None) -> S3Place:
        return S3Place(bucket=BUCKET, prefix=f"{prefix}/", endpoint_url=endpoint_url or self.endpoint_url)

    def url(self, prefix: str) -> str:
        return self.place(prefix).url

    def backend(self, prefix: str) -> S3Backend:
        return S3Backend(self.place(prefix))


def free_ports(count: int) -> list[int]:
    """All different: they are held open together."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def seaweedfs(folder: Path, ports: Sequence[int] = (), *, volumes: int = 64) -> Iterator[Server]:
    """A SeaweedFS that keeps its data in `folder`: started there again, with the same ports, it has them still.

    `volumes` of 256 MB each bound what it takes in; what is deleted is not taken back at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    s3, *others = ports or free_ports(10)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    names = ("master", "volume", "filer")
    flags = [
        flag
        for name, port, grpc in zip(names, others[:3], others[3:6], strict=True)
        for flag in (f"-{name}.port={port}", f"-{name}.port.grpc={grpc}")
    ]
    data = folder / "data"
    data.mkdir(exist_ok=True)
    command = [
        *("weed", "-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}"),
        *("-filer", "-s3", f"-s3.port={s3}", f"-s3.port.grpc={others[6]}", f"-s3.config={config}", *flags),
        *(f"-s3.port.iceberg={others[7]}", f"-s3.port.lance={others[8]}"),
        # Alone it waits for no other master to be elected: of the usual 10 s each restart would take most.
        *("-master.electionTimeout=1s", "-master.heartbeatInterval=100ms"),
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=256", f"-volume.max={volumes}"),
    ]
    with _running(command, f"http://127.0.0.1:{s3}", folder) as server:
        yield server


@contextmanager
def moto(folder: Path) -> Iterator[Server]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "relight.tests.moto_in_turn", str(port)]
    with _running(command, f"http://127.0.0.1:{port}", folder) as server:
        yield server


@contextmanager
def rclone(folder: Path) -> Iterator[Server]:
    """`rclone serve s3`, which ignores If-None-Match."""
    (port,) = free_ports(1)
    data = folder / "data"
    data.mkdir(parents=True)
    flags = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--vfs-cache-mode", "off"]
    with _running(["rclone", "serve", "s3", *flags, str(data)], f"http://127.0.0.1:{port}", folder) as server:
        yield server


@contextmanager
def _running(command: Sequence[str], endpoint_url: str, folder: Path) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("ab") as log:
        # A folder for temporary files of its own: two SeaweedFS would meet in one socket.
        temporary = folder / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(temporary), "HOME": str(folder)}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        server = Server(endpoint_url, process)
        wait_until(lambda: _takes_objects(server), deadline_s=60, what=f"{command[0]} to take its first object")
        yield server
    finally:
        process.kill()
        process.wait()


def _takes_objects(server: Server) -> bool:
    """A port that is open says little: the server is ready when an object was put."""
    assert server.process.poll() is None, "the server has died; see its log"
    with environment(CREDENTIALS):
        place = server.place("ready")
        client = S3Client(place, _IMPATIENT)
        with suppress(*FOREIGN):  # Not ready, or the bucket is there: the put will tell.
            client.run(client.call("create_bucket"), 5)
        try:
            S3Backend(place, _IMPATIENT).put(f"probe-{time.monotonic_ns()}", b"ready")
        except StorageError:
            return False
    return True


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
