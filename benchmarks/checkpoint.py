"""Saving and restoring beside the peers: `python -m benchmarks.checkpoint --bytes 1GiB --ranks 2 --json OUT`.

Prints tables; writes everything it measured, sample by sample, as JSON. Peers: `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from . import machine, plot, ratios, samples, tables
from .peers.choosing import CONTENDERS, FLOORS, MEMCPY, OURS, choose, preload
from .peers.ours import arenas
from .processes import MemoryWatch
from .ranks import play
from .restoring import Cache, restore
from .saving import saves_alone, saves_by_turns
from .sizes import parse_bytes
from .states import PARAMETERS
from .stores import is_remote, remove

_SERVER: Final = "seaweedfs"
_VOLUMES: Final = 200
"""Of the server of our own: room for all that all contenders save, 50 GB."""
_SAVED_BY: Final = {"raw_cached": "raw"}
"""Who reads what another has written."""


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    console = tables.open_console()
    with ExitStack() as until_the_end:
        root = until_the_end.enter_context(_storage(options.storage))
        try:
            names, absent = choose(options.peers, remote=is_remote(root))
        except ValueError as error:
            console.print(f"--peers: {error}")
            return 2
        preload(names)
        bench = Bench(options, root, names, lambda line: console.print(f"[dim]{line}[/dim]"))
        report = bench.run() | {"absent": absent}
    console.print(tables.contenders(report))
    console.print(tables.ratio_table(report["ratios"], ratios.claims(remote=is_remote(root)), report["noise"]))
    for name, reason in absent.items():
        console.print(f"[dim]{CONTENDERS[name].title}: {reason}[/dim]")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot.draw(report, options.plot)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint", description=__doc__)
    parser.add_argument("--bytes", type=parse_bytes, default="1GiB", help="the whole state: model and optimizer")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--shape", choices=sorted(PARAMETERS), default="few", help="66 large tensors or 3,000 small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default="all", help="all, none, or names with commas between them")
    parser.add_argument(
        "--storage", default="", help="a folder (default: here), an s3:// URL, or seaweedfs: a server of its own"
    )
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--plot", type=Path, help="draw a PNG here")
    return parser.parse_args(arguments)


@contextmanager
def _storage(wanted: str) -> Iterator[str]:
    """Where to write: a folder or a prefix of our own, gone in the end."""
    if wanted == _SERVER:
        from relight.tests import servers  # It comes with the group `dev`.

        # The server's program lies where pip put it, beside Python.
        os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        with (
            tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder,
            servers.seaweedfs(Path(folder), volumes=_VOLUMES) as server,
            servers.environment(server.environment),
        ):
            yield f"s3://{servers.BUCKET}/benchmark"
    elif is_remote(wanted):
        url = f"{wanted.rstrip('/')}/benchmark"
        yield url
        remove(url)
    else:
        place = Path(wanted) if wanted else Path.cwd()
        place.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=place, prefix=".benchmark-")
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


class Bench:
    """One run: saves by turns, restores in fresh processes, memory each alone; then the report."""

    def __init__(self, options: argparse.Namespace, root: str, names: list[str], say: Callable[[str], None]) -> None:
        self._options = options
        self._root = root
        self._names = names
        self._say = say
        self._state = {"shape": options.shape, "total_bytes": options.bytes}
        self._measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def run(self) -> dict[str, Any]:
        about = machine.facts(self._root)
        saved = self._save()
        self._restore(saved)
        self._weigh()
        self._measured["bytes"] |= {"state": [saved["bytes"]], "arenas": [saved["bytes"] * arenas()]}
        measured = {measure: dict(found) for measure, found in self._measured.items()}
        remote = is_remote(self._root)
        return {
            "benchmark": "checkpoint",
            "ratios": ratios.ratios(measured, remote=remote),
            "noise": self._noise(),
            "state": {"bytes": saved["bytes"], "tensors": 3 * PARAMETERS[self._options.shape]},
            "contenders": {name: _described(name) for name in self._names},
            "measures": {measure: samples.summaries(found) for measure, found in measured.items()},
            "arguments": {
                **{
                    name: value if isinstance(value, int) else str(value) for name, value in vars(self._options).items()
                },
                "storage_kind": "object store" if remote else "local disk",
            },
            "machine": about,
            "versions": machine.versions(),
        }

    def _save(self) -> dict[str, Any]:
        self._say("saving by turns")
        urls = {name: self._url(name) for name in self._names}
        saved: dict[str, Any] = self._play(saves_by_turns, urls=urls, rounds=self._options.rounds)[0]
        for sample in saved["samples"]:
            for measure in ("stall_s", "durable_s", "cpu_s"):
                self._measured[measure][sample["contender"]].append(sample[measure])
        return saved

    def _restore(self, saved: dict[str, Any]) -> None:
        remote = is_remote(self._root)
        for number in range(self._options.rounds):
            self._say(f"restoring, {number + 1} of {self._options.rounds}")
            for name in self._names:
                if CONTENDERS[name].loads and (caches := _caches(name, remote=remote)):
                    for cache in caches:
                        self._restore_once(name, cache, saved)

    def _restore_once(self, name: str, cache: Cache, saved: dict[str, Any]) -> None:
        number = saved["numbers"][_SAVED_BY.get(name, name)]
        answers = self._play(restore, name=name, url=self._url(name), number=number, cache=cache)
        if name not in FLOORS and any(answer["fingerprint"] != saved["fingerprint"] for answer in answers):
            message = f"{CONTENDERS[name].title} did not bring back the state that was saved"
            raise SystemExit(message)
        self._measured["restore_s" if cache == "cold" else "restore_warm_s"][name].append(answers[0]["seconds"])
        if cache == "cold":
            self._measured["restore_cpu_s"][name].append(answers[0]["cpu_s"])
            if not is_remote(self._root):
                self._measured["bytes_read"][name].append(answers[0]["bytes_read"])

    def _weigh(self) -> None:
        self._say("memory")
        for name in self._names:
            if CONTENDERS[name].saves and name != MEMCPY:
                watch, url = MemoryWatch(), f"{self._root}/alone/{name}"
                answers = self._play(saves_alone, name=name, url=url, watch=watch.look)
                self._measured["peak_extra_bytes"][name].append(watch.peak(answers[0]["begin"], answers[0]["end"]))
                self._measured["bytes_stored"][name].append(answers[0]["stored"])

    def _noise(self) -> dict[str, float | None]:
        """Ours against ours, and the floor against the floor: taken at odd turns over at even turns."""
        pairs = (("stall_s", MEMCPY), ("stall_s", OURS), ("durable_s", OURS), ("restore_s", OURS))
        return {f"{measure} {name}": samples.noise(self._measured[measure][name]) for measure, name in pairs}

    def _url(self, name: str) -> str:
        return f"{self._root}/{_SAVED_BY.get(name, name)}"

    def _play(self, scene: Any, *, watch: Callable[[], None] | None = None, **arguments: Any) -> list[Any]:
        return play(scene, self._options.ranks, self._state | arguments, watch=watch)


def _caches(name: str, *, remote: bool) -> tuple[Cache, ...]:
    """In which states of the page cache a restore is measured; an object store's client has none."""
    if name == "raw_cached":
        return ("warm",)
    return ("cold",) if remote or name == "raw" else ("cold", "warm")


def _described(name: str) -> dict[str, Any]:
    kind = CONTENDERS[name]
    return {"title": kind.title, "durable": kind.durable, "verifies": kind.verifies, "note": kind.note}


if __name__ == "__main__":
    sys.exit(main())
