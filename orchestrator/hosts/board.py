"""What the hosts of one round tell each other, through a store that all of them reach. Everything here may block."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from torch.distributed import Store  # type: ignore[attr-defined]  # Public, but not in __all__.

from ..judging.failures import Failure, FailureClass
from .meeting import Broken, Cause

_ASKED: Final = "asked"
_BROKEN: Final = "broken"
_MOST_DETAILS: Final = 4000
_PAUSE_S: Final = 0.02


class NotAllCame(TimeoutError):
    """A host that was part of the round was gone before it said who it is."""


@dataclass(frozen=True, slots=True)
class Board:
    """One round's, as one host uses it. Of what two hosts write in one place, all read what came first."""

    store: Store
    rank: int
    hosts: int
    name: str
    """Of this host."""

    def offer(self, mine: dict[str, Any], patience_s: float) -> list[dict[str, Any]]:
        """Put up who this host is; every host's word, by group rank.

        Raises:
            NotAllCame: not within `patience_s`.
        """
        self.store.set(f"host/{self.rank}", json.dumps(mine))
        keys = [f"host/{each}" for each in range(self.hosts)]
        # Not `wait`: it keeps the store to itself, and the rendezvous has to send its signs of life.
        if not wait_for(lambda: self.store.check(keys), patience_s):
            raise NotAllCame(f"not all of the {self.hosts} hosts that came have said who they are")
        return [json.loads(self.store.get(key)) for key in keys]

    def ask(self, cause: Cause, reason: str) -> Broken:
        """Ask all hosts to let their workers save and end. Returns what was asked first."""
        return self._claim(_ASKED, Broken(reason, cause, self.name))

    def accuse(self, broken: Broken) -> Broken:
        """End the round at once. Returns the first cause, which may be another's."""
        return self._claim(_BROKEN, broken)

    def word(self) -> Broken | None:
        """Why the round is over, if it is; before that, what was asked."""
        for key in (_BROKEN, _ASKED):
            if self.store.check([key]):
                return self._read(self.store.get(key))
        return None

    def beat(self, count: str) -> None:
        self.store.set(f"beat/{self.rank}", count)

    def beats(self, hosts: Sequence[int]) -> dict[int, str]:
        """The counters of those hosts; all have beaten at least once."""
        values = self.store.multi_get([f"beat/{host}" for host in hosts]) if hosts else []
        return {host: value.decode() for host, value in zip(hosts, values, strict=True)}

    def finish(self) -> None:
        self.store.set(f"finished/{self.rank}", "")

    def all_finished(self) -> bool:
        return self.store.check([f"finished/{each}" for each in range(self.hosts)])

    def _claim(self, key: str, mine: Broken) -> Broken:
        return self._read(self.store.compare_set(key, "", _encode(mine, self.rank)))

    def _read(self, document: bytes) -> Broken:
        fields = json.loads(document)
        failure = fields["failure"]
        if failure is not None:
            failure = Failure(**failure | {"kind": FailureClass[failure["kind"]], "beside": tuple(failure["beside"])})
        ours = fields["rank"] == self.rank
        return Broken(fields["reason"], Cause(fields["cause"]), fields["host"], failure, ours)


def _encode(broken: Broken, rank: int) -> str:
    failure = None
    if broken.failure is not None:
        failure = asdict(broken.failure) | {
            "kind": broken.failure.kind.name,
            "details": broken.failure.details[-_MOST_DETAILS:],
            "message": broken.failure.message[:_MOST_DETAILS],
            "at_ns": 0,  # Another host's clock says nothing here.
        }
    return json.dumps(
        {"reason": broken.reason, "cause": broken.cause.value, "host": broken.host, "failure": failure, "rank": rank}
    )


def wait_for(condition: Any, patience_s: float) -> bool:
    """Ask again and again; False when it was not so in time."""
    ends_at, pause = time.monotonic() + patience_s, threading.Event()
    while not condition():
        if time.monotonic() >= ends_at:
            return False
        pause.wait(_PAUSE_S)
    return True


@dataclass(frozen=True, slots=True)
class Ending:
    """How the run has ended, for hosts that come too late. It outlives the round."""

    host: str
    code: int


class Notes:
    """What is said to all hosts of a run, whether they are in a round or not."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def end(self, ending: Ending) -> None:
        self._store.compare_set("ended", "", json.dumps(asdict(ending)))

    def ending(self) -> Ending | None:
        return Ending(**json.loads(self._store.get("ended"))) if self._store.check(["ended"]) else None

    def read(self) -> Ending | None:
        """As `ending`, by one who has no more to ask."""
        ending = self.ending()
        self._store.add("read", 1)
        return ending

    def see_all_off(self, hosts: int, patience_s: float) -> None:
        """Whoever hosts the store must not go before so many hosts, this one among them, have read how it ended."""
        self._store.add("read", 1)
        wait_for(lambda: self._store.add("read", 0) >= hosts, patience_s)
