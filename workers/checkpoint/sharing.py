"""Every shard in reach of every rank: ranks of one host map each other's memory, other hosts get it once, by rails."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ...storage.shared_memory import SharedMemory
from ..errors import StorageTrouble
from .blank import Blank
from .collective import Circle
from .hosts import Hosts, meet

_PROBE_BYTES = 16

Attach = Callable[[str, int], SharedMemory]


def this_host() -> str:
    """Alike for processes that may map each other's memory by its address: of one kernel, pid namespace and user."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}/{os.geteuid()}"


class Sharing:
    """One restore's sharing of shards. `host` is what this rank says of where it runs; `attach` maps an address."""

    def __init__(self, circle: Circle, *, host: str | None = None, attach: Attach = SharedMemory.attach) -> None:
        self._circle = circle
        self._host = this_host() if host is None else host
        self._attach = attach
        self._met: Hosts | None = None

    def share(
        self, held: Mapping[int, SharedMemory], owners: Sequence[int], sizes: Sequence[int]
    ) -> dict[int, memoryview]:
        """All shards by number, readable here. A collective: when it returns, all ranks can read all of them.

        `held` are the shards that this rank brings, `owners[n]` is the rank that brings shard n, of `sizes[n]` bytes.
        The memory is mapped as long as somebody looks at a view; no descriptor is kept.

        Raises:
            StorageTrouble: on all ranks, when one of them had no room for what others sent, or could not map it.
        """
        rank = self._circle.rank
        hosts = self.hosts()
        holders = [hosts.holder(owner, rank) for owner in owners]
        mine = dict(held)
        with ExitStack() as landed:
            with self._agreed("make room for"):
                for number, holder in enumerate(holders):
                    if holder == rank and number not in mine:
                        mine[number] = memory = Blank(sizes[number])
                        landed.callback(memory.close)
            addresses = self._tell({number: memory.address for number, memory in mine.items()})
            views = {number: memory.view[: sizes[number]] for number, memory in mine.items()}
            with self._agreed("map"):
                for number, holder in enumerate(holders):
                    if holder != rank:
                        views[number] = self._look_at(addresses[holder][str(number)], sizes[number])
        if len(hosts.groups) > 1:
            self._pass_on(hosts, owners, views)
        return views

    def hosts(self) -> Hosts:
        """Which ranks can map each other's memory; tried out at the first call, which is a collective."""
        if self._met is None:
            self._met = self._meet()
        return self._met

    def _meet(self) -> Hosts:
        if self._circle.size == 1:
            return Hosts(((0,),))
        probe = SharedMemory.create(_PROBE_BYTES)
        try:
            probe.view[:] = os.urandom(_PROBE_BYTES)
            facts = self._tell([self._host, probe.address, bytes(probe.view).hex()])
            # Only what claims to be of this host is opened: elsewhere the address may be anything.
            reached = [rank for rank, (host, *told) in enumerate(facts) if host == self._host and self._is_there(*told)]
            reports = self._tell(reached)
        finally:
            probe.close()
        return meet([host for host, *_ in facts], reports)

    def _is_there(self, address: str, content: str) -> bool:
        try:
            return self._look_at(address, _PROBE_BYTES).hex() == content
        except OSError:
            return False

    def _look_at(self, address: str, size: int) -> memoryview:
        memory = self._attach(address, size)
        view = memory.view[:size]
        memory.close()
        return view

    def _pass_on(self, hosts: Hosts, owners: Sequence[int], views: Mapping[int, memoryview]) -> None:
        with self._circle.rail(hosts.rails) as rail:
            for number, owner in enumerate(owners):
                porter = hosts.porter(owner, hosts.group_of(owner))
                if rail is not None and porter in rail.ranks:
                    rail.send(views[number], porter)
            if rail is not None:
                rail.wait()
            self._circle.meet()  # The neighbours look at what this rank has received.

    def _tell(self, fact: Any) -> list[Any]:
        return [json.loads(text) for text in self._circle.exchange(json.dumps(fact))]

    @contextmanager
    def _agreed(self, what: str) -> Iterator[None]:
        """Go on only when no rank has failed: the others would wait for it."""
        failure = ""
        try:
            yield
        except OSError as error:
            failure = f"cannot {what} the shards that other ranks have read: {error}"
        failures = [f"rank {rank} {text}" for rank, text in enumerate(self._circle.exchange(failure)) if text]
        if failures:
            raise StorageTrouble("; ".join(failures))
