"""How fast every byte is proven, and in how much memory: `python -m benchmarks.verifying --bytes 2GiB --json OUT`.

A checkpoint of one tensor is read cold and warm by turns with a raw read of the same file by as many threads; then the
commands that go through all of it are run as a person runs them. The figures of memory are the processes' largest.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from relight.storage import checksum, generations, runs
from relight.storage.arrangement import plan
from relight.storage.backends.local import LocalBackend
from relight.storage.commit import SaveJob, commit
from relight.storage.layout import AttemptId
from relight.storage.manifest import Manifest, Progress
from relight.storage.reading import RUN_BYTES
from relight.storage.receipts import Receipt
from relight.storage.retention import Rules
from relight.storage.shards import Piece, ShardLayout
from relight.storage.verify import THREADS, verify

from . import machine, samples, stores
from .bytes import Act, Bench
from .sizes import parse_bytes, show_bytes, show_seconds

_PATTERN_BYTES: Final = 1 << 20


class Pattern:
    """A shard that is never in memory: its header, and then the same random mebibyte again and again."""

    def __init__(self, layout: ShardLayout) -> None:
        self._layout = layout
        self._pattern = os.urandom(_PATTERN_BYTES)

    def __len__(self) -> int:
        return self._layout.size

    def __getitem__(self, stretch: slice, /) -> memoryview:
        start, end, _ = stretch.indices(len(self))
        buffer = memoryview(mmap.mmap(-1, max(end - start, 1)))[: end - start]  # On a page, as an arena is.
        at = start
        while at < end:
            piece = memoryview(self._pattern)[at % _PATTERN_BYTES :][: end - at]
            buffer[at - start : at - start + len(piece)] = piece
            at += len(piece)
        header = self._layout.header[start:end]
        buffer[: len(header)] = header
        return buffer


def make(backend: LocalBackend, size: int) -> Manifest:
    """A run with one committed checkpoint of one rank."""
    run = runs.register(backend, {"name": "verifying"})
    generations.claim(backend, incarnation="benchmark", resumed_from=None, host="here")
    source = Pattern(plan([Piece.whole("model/weight", "F32", (size // 4096, 1024))], {"progress": {"step": 1}}))
    job = SaveJob(
        id=AttemptId(1, 1, 1, "00abcd"), run=run.run, token="one", rank=0, world_size=1,  # noqa: S106 -- no password
        progress=Progress(epoch=0, step=1, samples=0), deadline_s=60, rules=Rules(),
    )  # fmt: skip
    backend.put_stream(job.id.shard_key(0, 1), source)
    spans = checksum.block_spans(len(source), checksum.BLOCK_BYTES)
    receipt = Receipt(
        rank=0, size=len(source), blocks=tuple(checksum.digest(source[start:end]) for start, end in spans)
    )
    backend.put(job.id.receipt_key(0), receipt.to_bytes())
    return commit(backend, job, [receipt])


def raw_read(path: Path, *, direct: bool) -> None:
    """The whole pages of a file, by as many threads and in as long stretches, into memory that is used again."""
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    end = os.fstat(descriptor).st_size // mmap.PAGESIZE * mmap.PAGESIZE
    spare: SimpleQueue[memoryview] = SimpleQueue()
    for _ in range(THREADS):
        spare.put(memoryview(mmap.mmap(-1, RUN_BYTES)))

    def read(start: int) -> None:
        buffer, stop = spare.get(), min(start + RUN_BYTES, end)
        at = start
        while at < stop and (got := os.preadv(descriptor, [buffer[at - start : stop - start]], at)):
            at += got
        spare.put(buffer)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(read, range(0, end, RUN_BYTES)):
            pass
    os.close(descriptor)


def _raw_read(path: Path, direct: bool, _turn: int) -> None:  # noqa: FBT001 -- bound beforehand
    raw_read(path, direct=direct)


def command(*arguments: str) -> dict[str, Any]:
    """`relight ARGUMENTS`, and what it took."""
    began = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "relight", *arguments],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(pid, 0)
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * 1024,
    }


def measure(bench: Bench, folder: Path, size: int) -> dict[str, Any]:
    """The commands' figures; the rates are in `bench`."""
    backend = LocalBackend(folder / "run")
    manifest = make(backend, size)
    file = folder / "run" / manifest.shard_key(0)

    def prove(_: int) -> None:
        if damage := verify(backend, manifest):
            raise SystemExit(str(damage[0]))

    for kind, direct, prepare in (("cold", True, stores.make_cold), ("warm", False, stores.make_warm)):
        acts: dict[str, Act] = {"raw read": partial(_raw_read, file, direct), "verify": prove}
        bench.run(kind, acts, between=partial(prepare, str(file)))
    here, copy = str(folder / "run"), str(folder / "copy")
    return {
        "verify": command("verify", here),
        "show --digest": command("show", here, "--digest"),
        "cp": command("cp", here, copy),
        "diff": command("diff", here, copy),
    }


def ratios(seconds: Mapping[str, Mapping[str, list[float]]]) -> dict[str, float | None]:
    """`verify`'s rate over that of the raw read."""
    return {kind: samples.paired_ratio(found["raw read"], found["verify"]) for kind, found in seconds.items()}


def show(bench: Bench, commands: Mapping[str, Mapping[str, Any]], size: int, console: Console) -> None:
    table = Table(title=f"every byte of {show_bytes(size)}")
    for column in ("", "median", "least", "GB/s", "CPU seconds", "GB/s of a core"):
        table.add_column(column, justify="right" if column else "left")
    for kind, measured in bench.seconds.items():
        for name, found in measured.items():
            facts, cpu_s = samples.summary(found), samples.summary(bench.cpu_s[kind][name])["median"]
            rates = (f"{size / facts['median'] / 1e9:.2f}", show_seconds(cpu_s), f"{size / cpu_s / 1e9:.2f}")
            table.add_row(f"{kind}: {name}", show_seconds(facts["median"]), show_seconds(facts["min"]), *rates)
    console.print(table)
    for kind, value in ratios(bench.seconds).items():
        console.print(f"{kind}: verify at {value or 0:.2f} of the raw read's rate")
    table = Table(title="the commands, processes of their own")
    for column in ("relight", "exit code", "seconds", "CPU seconds", "most memory"):
        table.add_column(column, justify="right" if column != "relight" else "left")
    for name, used in commands.items():
        took = (show_seconds(used["seconds"]), show_seconds(used["cpu_s"]), show_bytes(used["max_rss_bytes"]))
        table.add_row(name, str(used["exit_code"]), *took)
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verifying", description=__doc__)
    parser.add_argument("--bytes", type=parse_bytes, default="2GiB", help="one checkpoint, of one rank")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk that is measured")
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args(arguments)
    about, bench = machine.facts(str(options.folder)), Bench(options.rounds)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix=".benchmark-") as folder:
        commands = measure(bench, Path(folder), options.bytes)
    show(bench, commands, options.bytes, Console())
    if options.json:
        report: dict[str, Any] = {"benchmark": "verifying", "bytes": options.bytes, "ratios": ratios(bench.seconds)}
        report |= {"commands": commands, "seconds": bench.seconds, "cpu_s": bench.cpu_s}
        report |= {"machine": about, "versions": machine.versions()}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
