"""Storage's own speed, without torch: `python -m benchmarks.bytes --bytes 512MiB --rounds 7 --s3 seaweedfs --json OUT`.

One shard, by one process: written durably beside a raw O_DIRECT write, read with verification beside a raw parallel
read, sent to S3 and read back beside boto3 and obstore where they are installed. All by turns; the first turn warms up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import mmap
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from relight.storage import checksum
from relight.storage.backends.base import Backend
from relight.storage.backends.local import LocalBackend
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.storage.commit import SaveJob, commit, write_shard
from relight.storage.layout import AttemptId
from relight.storage.manifest import Progress
from relight.storage.reading import ShardReader
from relight.storage.retention import Rules

from . import machine, samples, stores
from .byte_peers import raw_read, raw_write, s3_peers
from .sizes import parse_bytes, show_seconds

THREADS: Final = 4
SETS: Final = ("write", "read cold", "read cached", "upload", "download")

Act = Callable[[int], object]
"""Gets the number of the turn."""


class Bench:
    """Runs acts by turns and keeps seconds and CPU seconds of each, by set and name."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self.seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.cpu_s: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def run(self, kind: str, acts: Mapping[str, Act], *, between: Callable[[], object] = lambda: None) -> None:
        """`between` is called before every act, unmeasured."""
        names = list(acts)
        for turn in range(self._rounds + 1):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                between()
                cpu, began = time.process_time(), time.perf_counter()
                acts[name](turn)
                seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
                if turn:
                    self.seconds[kind][name].append(seconds)
                    self.cpu_s[kind][name].append(cpu_s)


class Run:
    """A run's storage, saved to by one rank, and memory as an arena gives it: on pages, laid out as the file."""

    def __init__(self, backend: Backend, data: memoryview) -> None:
        self.backend = backend
        self._data = data
        self._steps = itertools.count(1)

    def put(self, _: int) -> None:
        self.backend.put(f"checkpoints/put-{next(self._steps)}", self._data)

    def write_shard(self, _: int) -> None:
        write_shard(self.backend, _job(next(self._steps)), self._data)

    def hash_then_put(self, turn: int) -> None:
        checksum.hash_blocks(self._data)
        self.put(turn)

    def reader(self) -> ShardReader:
        """Of a checkpoint that is committed for the purpose."""
        job = _job(10**9)
        commit(self.backend, job, [write_shard(self.backend, job, self._data)])
        return ShardReader(self.backend, Catalog(self.backend).find().manifest, 0)


def _job(step: int) -> SaveJob:
    return SaveJob(
        id=AttemptId(step, 1, 1, "00abcd"),
        run="benchmark",
        token="one",  # noqa: S106  (no password)
        rank=0,
        world_size=1,
        progress=Progress(epoch=0, step=step, samples=0, loss=None),
        deadline_s=60,
        rules=Rules(),
    )


def local(bench: Bench, folder: Path, data: memoryview, into: memoryview) -> None:
    run, raw = Run(LocalBackend(folder), data), folder / "raw"

    def clear() -> None:
        for path in (folder / "checkpoints", raw, folder / "buffered"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        stores.settle(str(folder))

    writes: dict[str, Act] = {
        "raw O_DIRECT": lambda _: raw_write(raw, data, direct=True),
        "raw buffered + fsync": lambda _: raw_write(folder / "buffered", data, direct=False),
        "relight": run.write_shard,
        "relight, put alone": run.put,
        "relight, hash then put": run.hash_then_put,
        "hash alone": lambda _: checksum.hash_blocks(data),
    }
    bench.run("write", writes, between=clear)
    clear()
    reader = run.reader()
    file = folder / reader.key
    acts: dict[str, Act] = {
        "raw O_DIRECT": lambda _: raw_read(file, into, THREADS, direct=True),
        "raw through the cache": lambda _: raw_read(file, into, THREADS, direct=False),
        "relight": lambda _: reader.read_into(into, threads=THREADS),
    }
    bench.run("read cold", acts, between=lambda: stores.make_cold(str(file)))
    bench.run("read cached", acts, between=lambda: stores.make_warm(str(file)))
    if into != data:
        raise SystemExit("what was read is not what was written")


def remote(bench: Bench, url: str, data: memoryview, into: memoryview) -> None:
    run = Run(open_backend(url), data)
    reader, peers = run.reader(), s3_peers(url, data)
    bench.run("upload", {"relight": run.put} | {name: send for name, (send, _) in peers.items()})
    acts: dict[str, Act] = {"relight": lambda _: reader.read_into(into, threads=THREADS)}
    bench.run("download", acts | {name: get for name, (_, get) in peers.items()})


def ratios(seconds: Mapping[str, Mapping[str, list[float]]]) -> dict[str, float | None]:
    """Rates of ours over the best of the raw ones, so that 1 is as fast; None where one was not measured."""
    found: dict[str, float | None] = {}
    for kind in SETS:
        ours, raw = seconds.get(kind, {}).get("relight"), _fastest(seconds.get(kind, {}))
        found[f"{kind}, over raw"] = samples.ratio(raw, ours)
        found[f"{kind}, the same thing twice"] = samples.noise(ours) if ours else None
    writes = seconds.get("write", {})
    if writes:
        shown = samples.ratio(writes["relight"], writes["relight, hash then put"])
        found["write, hashed beside over hashed before"] = shown
    return found


def _fastest(measured: Mapping[str, list[float]]) -> list[float] | None:
    """Of what is not ours."""
    rivals = [found for name, found in measured.items() if not name.startswith(("relight", "hash"))]
    return min(rivals, key=lambda found: samples.summary(found)["median"], default=None)


def show(bench: Bench, size: int, console: Console) -> None:
    for kind, measured in bench.seconds.items():
        table = Table(title=f"{kind}, {size >> 20} MiB")
        for column in ("", "median", "least", "MiB/s", "CPU seconds"):
            table.add_column(column, justify="right" if column else "left")
        for name, found in measured.items():
            facts = samples.summary(found)
            cpu_s = samples.summary(bench.cpu_s[kind][name])["median"]
            rate = f"{size / facts['median'] / 2**20:.0f}"
            table.add_row(name, show_seconds(facts["median"]), show_seconds(facts["min"]), rate, show_seconds(cpu_s))
        console.print(table)
    for name, value in ratios(bench.seconds).items():
        if value is not None:
            console.print(f"{name}: {value:.2f}")


@contextmanager
def _place(wanted: str, folder: Path) -> Iterator[str]:
    """The URL to send to: a server's own, or what was given."""
    if wanted != "seaweedfs":
        yield wanted
        return
    from relight.tests import servers  # It comes with the group `dev`.

    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".benchmark-") as place,
        servers.seaweedfs(Path(place)) as server,
        servers.environment(server.environment),
    ):
        yield f"s3://{servers.BUCKET}/bytes"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bytes", description=__doc__)
    parser.add_argument("--bytes", type=parse_bytes, default="512MiB", help="one shard")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk that is measured")
    parser.add_argument("--s3", default="", help="an s3:// URL, or seaweedfs: a server of its own (default: none)")
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args(arguments)
    about, bench = machine.facts(str(options.folder)), Bench(options.rounds)
    data, into = (memoryview(mmap.mmap(-1, options.bytes)) for _ in range(2))
    data[:] = (os.urandom(1 << 20) * (options.bytes // (1 << 20) + 1))[: options.bytes]
    into[:] = data
    with ExitStack() as until_the_end:
        folder = until_the_end.enter_context(tempfile.TemporaryDirectory(dir=options.folder, prefix=".benchmark-"))
        local(bench, Path(folder), data, into)
        if options.s3:
            remote(bench, until_the_end.enter_context(_place(options.s3, options.folder)), data, into)
    show(bench, options.bytes, Console())
    if options.json:
        report = {"benchmark": "bytes", "bytes": options.bytes, "ratios": ratios(bench.seconds)}
        report |= {"seconds": bench.seconds, "cpu_s": bench.cpu_s, "machine": about, "versions": machine.versions()}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
