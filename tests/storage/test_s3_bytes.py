"""Bytes go to S3 and come back without being copied as a whole, and a server can check what it was sent."""

from __future__ import annotations

import base64
import contextlib
import mmap
import threading
import tracemalloc
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Final

import pytest

from relight.storage.backends.patience import Patience
from relight.storage.backends.s3 import S3Backend
from relight.storage.backends.s3_body import Body, crc32
from relight.storage.backends.s3_client import S3Client
from relight.storage.backends.s3_errors import FOREIGN, Kind, kind_of
from relight.storage.backends.s3_place import S3Place
from relight.storage.backends.s3_upload import part_spans
from relight.tests.servers import CREDENTIALS, Server, environment

MIB: Final = 1 << 20
_BEGUN: Final = b"<InitiateMultipartUploadResult><UploadId>an-upload</UploadId></InitiateMultipartUploadResult>"
_DONE: Final = b"<CompleteMultipartUploadResult><ETag>done</ETag></CompleteMultipartUploadResult>"


def filled(size: int) -> memoryview:
    """Memory that starts on a page, as an arena's does, filled with what repeats only after 251 bytes."""
    memory = memoryview(mmap.mmap(-1, size))
    memory[:] = (bytes(range(251)) * (size // 251 + 1))[:size]
    return memory


@dataclass
class Store:
    """Says yes to every upload, and keeps what it was sent."""

    endpoint_url: str = ""
    headers: dict[int, dict[str, str]] = field(default_factory=dict)
    """Of each part, by number; names in lower case."""
    parts: dict[int, bytes] = field(default_factory=dict)

    def backend(self, **options: str) -> S3Backend:
        place = S3Place(bucket="bucket", prefix="run/", endpoint_url=self.endpoint_url, region="us-east-1", **options)
        return S3Backend(place, Patience(connect_timeout_s=2, read_timeout_s=2, deadline_s=10, retries=0))


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(_BEGUN if self.path.endswith("?uploads") else _DONE)

        def do_PUT(self) -> None:
            number = int(self.path.partition("partNumber=")[2].partition("&")[0])
            store.headers[number] = {name.lower(): value for name, value in self.headers.items()}
            store.parts[number] = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("ETag", '"tag"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle_expect_100(self) -> bool:
            """As a server that never heard of it: the client waits for its `100 Continue` in vain."""
            return True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # A client that hangs up.

    server = Server(("127.0.0.1", 0), Handler)
    store.endpoint_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with environment(CREDENTIALS):
            yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_part_is_sent_as_it_lies_with_a_checksum_and_no_other_hash(store: Store) -> None:
    data = filled(20 * MIB + 3)
    store.backend().put("key", data)
    spans = part_spans(len(data))
    assert [store.parts[number] for number in sorted(store.parts)] == [data[start:end] for start, end in spans]
    for number, headers in store.headers.items():
        assert headers["x-amz-checksum-crc32"] == crc32(memoryview(store.parts[number]))
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert "x-amz-checksum-crc32" in headers["authorization"]  # Whoever changes it breaks the signature.
        assert "expect" not in headers
        assert "transfer-encoding" not in headers


@pytest.mark.parametrize("way", ["url", "environment"])
def test_a_server_that_wants_no_checksums_is_sent_signed_bytes(store: Store, way: str) -> None:
    data = filled(9 * MIB)
    wanted = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"} if way == "environment" else {}
    options = {"request_checksum_calculation": "when_required"} if way == "url" else {}
    with environment(wanted):
        store.backend(**options).put("key", data)
    assert b"".join(store.parts[number] for number in sorted(store.parts)) == data
    for headers in store.headers.values():
        assert not [name for name in headers if name.startswith("x-amz-checksum")]
        assert len(headers["x-amz-content-sha256"]) == 64
        assert "expect" not in headers


def test_who_has_asked_for_signed_payloads_gets_them(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = tmp_path_factory.mktemp("aws") / "config"
    config.write_text("[default]\ns3 =\n  payload_signing_enabled = true\n")
    with environment({"AWS_CONFIG_FILE": str(config)}):
        store.backend().put("key", filled(9 * MIB))
    assert {len(headers["x-amz-content-sha256"]) for headers in store.headers.values()} == {64}


@pytest.mark.needs("weed")
@pytest.mark.parametrize("size", [8 * MIB + 1, 20 * MIB + 4097])
@pytest.mark.parametrize("shift", [0, 3])
def test_what_was_sent_in_parts_comes_back(seaweed: Server, size: int, shift: int) -> None:
    data = filled(size + shift)[shift:]
    with environment(seaweed.environment):
        backend = seaweed.backend(uuid.uuid4().hex)
        backend.put("key", data)
        assert backend.read("key") == data
        buffer = memoryview(bytearray(size))
        assert backend.read_into("key", 0, buffer) == size
        assert buffer == data
        for start, length, expected in ((5, 7, 7), (size - 3, 9, 3), (size, 1, 0), (size + 5, 10, 0), (0, 0, 0)):
            assert backend.read_into("key", start, buffer[:length]) == expected
            assert buffer[:expected] == data[start : start + expected]


@pytest.mark.needs("weed")
def test_neither_an_upload_nor_a_read_copies_the_object(seaweed: Server) -> None:
    size = 64 * MIB
    data, buffer = filled(size), filled(size)
    with environment(seaweed.environment):
        backend = seaweed.backend(uuid.uuid4().hex)
        backend.list("")
        with peak() as uploaded:
            backend.put("key", data)
        with peak() as read:
            backend.read_into("key", 0, buffer)
    print(f"peak extra memory of 64 MiB: {uploaded[0] / MIB:.1f} MiB up, {read[0] / MIB:.1f} MiB down")
    assert uploaded[0] < 8 * MIB
    assert read[0] < 8 * MIB


@contextlib.contextmanager
def peak() -> Iterator[list[int]]:
    """What was allocated at most, in bytes, in all threads."""
    found: list[int] = []
    tracemalloc.start()
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.needs("weed")
def test_a_part_that_suffers_on_the_way_up_is_refused_and_sent_again(seaweed: Server) -> None:
    part = filled(5 * MIB)
    with environment(seaweed.environment):
        client = S3Client(seaweed.place(uuid.uuid4().hex), Patience())
        begun = client.run(client.call("create_multipart_upload", Key="key"), 10)
        wrong = base64.b64encode((zlib.crc32(part) ^ 1).to_bytes(4, "big")).decode()
        target = {"Key": "key", "UploadId": begun["UploadId"], "PartNumber": 1}
        with pytest.raises(FOREIGN) as refused:
            client.run(client.call("upload_part", Body=Body(part), ChecksumCRC32=wrong, **target), 10)
        assert kind_of(refused.value) is Kind.PASSING
        client.run(client.call("upload_part", Body=Body(part), ChecksumCRC32=crc32(part), **target), 10)


def test_a_body_is_a_file_to_whoever_reads_it() -> None:
    body = Body(memoryview(b"0123456789"))

    def read(size: int | None) -> bytes:
        return bytes(body.read(size))

    assert len(body) == 10
    assert (read(3), body.tell()) == (b"012", 3)
    assert (read(None), body.tell()) == (b"3456789", 10)
    assert read(1) == b""
    assert (body.seek(-2, 2), read(-1)) == (8, b"89")
    assert (body.seek(4), body.seek(1, 1), read(99)) == (4, 5, b"56789")


@pytest.mark.parametrize(
    ("size", "part"), [(20 * MIB, 8), (512 * MIB, 16), (1 << 30, 32), (100 << 30, 32), (500 << 30, 52)]
)
def test_parts_grow_with_the_object_within_bounds(size: int, part: int) -> None:
    spans = part_spans(size)
    assert {end - start for start, end in spans[:-1]} == {part * MIB}
    assert all(one[1] == other[0] for one, other in pairwise(spans))
