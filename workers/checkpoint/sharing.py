"""Every shard in reach of every rank: ranks of one host map each other's memory, other hosts get it once, by rails."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...storage.shared_memory import SharedMemory
from ..errors import StorageTrouble
from .assigning import Parcel
from .blank import Blank
from .collective import Circle
from .hosts import Hosts, meet

_PROBE_BYTES = 16

Attach = Callable[[str, int], SharedMemory]


@dataclass(slots=True)
class Shelf:
    """The shards as this rank reaches them, each byte at its place in the file; what nobody brings is not there.

    `blanks` are those that it may write into, its own or a neighbour's.
    """

    views: dict[int, memoryview] = field(default_factory=dict)
    blanks: dict[int, Blank] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of everything. Only when no rank looks at it any more: memory that is kept is written anew."""
        self.views.clear()
        while self.blanks:
            self.blanks.popitem()[1].close()


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

    def open(
        self,
        shelf: Shelf,
        held: Mapping[int, SharedMemory],
        owners: Sequence[int],
        sizes: Sequence[int],
        parcels: Sequence[Parcel],
    ) -> None:
        """Put on the shelf all shards of which this rank needs, reads or passes on a parcel. A collective.

        `held` is memory that this rank has already, besides what is on the shelf, of shards that it owns: `owners[n]`
        owns shard n, of `sizes[n]` bytes. A shard lies in one memory of each host that has to do with it.

        Raises:
            StorageTrouble: on all ranks, when one of them had no room, or could not map what is a neighbour's.
        """
        rank, hosts = self._circle.rank, self.hosts()
        users, writers = self._users(parcels)
        group = set(hosts.group_of(rank))
        wanted = [number for number in users if users[number] & group]
        keepers = {number: hosts.holder(owners[number], rank) for number in wanted}
        mine = {**held, **shelf.blanks}
        with self._agreed("make room for"):
            for number in wanted:
                if keepers[number] == rank and number not in mine:
                    mine[number] = shelf.blanks[number] = Blank(sizes[number])
        addresses = self._tell({number: memory.address for number, memory in mine.items() if number in wanted})
        with self._agreed("map"):
            for number in wanted:
                if number in mine:
                    shelf.views[number] = mine[number].view[: sizes[number]]
                elif rank in users[number]:
                    address = addresses[keepers[number]][str(number)]
                    if rank in writers[number]:
                        shelf.blanks[number] = Blank.join(address, sizes[number])
                        shelf.views[number] = shelf.blanks[number].view
                    else:
                        shelf.views[number] = self._look_at(address, sizes[number])

    def pass_on(self, shelf: Shelf, parcels: Sequence[Parcel], block_bytes: Sequence[int]) -> None:
        """Bring each parcel to the hosts that need it. A collective: then all ranks have all that they need."""
        hosts = self.hosts()
        if len(hosts.groups) == 1:
            self._circle.meet()
            return
        travelling = [parcel for parcel in parcels if hosts.travels(parcel.reader, parcel.needed_by)]
        with self._circle.rail(hosts.rails if travelling else ()) as rail:
            for parcel in travelling:
                porter = hosts.porter(parcel.reader, hosts.group_of(parcel.reader))
                if rail is not None and porter in rail.ranks:
                    size = block_bytes[parcel.shard]
                    rail.send(shelf.views[parcel.shard][parcel.first * size : parcel.end * size], porter)
            if rail is not None:
                rail.wait()
            self._circle.meet()  # The neighbours look at what this rank has received.

    def _users(self, parcels: Sequence[Parcel]) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
        """By shard: the ranks that look at it, and of these the ones that write into it, too."""
        hosts = self.hosts()
        users: dict[int, set[int]] = defaultdict(set)
        writers: dict[int, set[int]] = defaultdict(set)
        for parcel in parcels:
            writers[parcel.shard].add(parcel.reader)
            if hosts.travels(parcel.reader, parcel.needed_by):
                writers[parcel.shard] |= {hosts.porter(parcel.reader, group) for group in hosts.groups}
            users[parcel.shard] |= parcel.needed_by | writers[parcel.shard]
        return users, writers

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
