"""One round of hosts, from the moment they have met to its end, as one of them sees it. Everything here may block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch.distributed.elastic.rendezvous import RendezvousHandler

from ..judging.failures import Failure, FailureClass
from .board import Board
from .liveness import BEAT_EVERY_S, GONE, Liveness
from .meeting import AllFinished, Broken, Cause, News

_HEARD_AFTER_S: Final = 2.0
"""Whoever beats so long after a failure has no part in it, or has said so."""


class Round:
    """`names` are those of all hosts, by group rank; `now_s` is always this host's monotonic clock."""

    def __init__(self, board: Board, handler: RendezvousHandler, names: Sequence[str], now_s: float) -> None:
        self.board = board
        self._handler = handler
        self._names = names
        self._liveness = Liveness((host for host in range(board.hosts) if host != board.rank), now_s)
        self._count = 0
        self._next_beat_s = now_s
        self._asked = False
        self._claim: Broken | None = None
        self._claimed_s = now_s
        self.finishing = False
        self.over = False

    def look(self, now_s: float) -> News | None:
        """What there is to tell the launcher's loop."""
        word = self.board.word()
        if word is not None and (not word.gentle or self._was_told_to_stop()):
            return self._end(word)
        if self.finishing and self.board.all_finished():
            self.over = True
            return AllFinished()
        if word is not None and not self._asked:
            self._asked = True
            return word
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + BEAT_EVERY_S
            if news := self._beat(now_s):
                return news
        if self._claim is not None and self._may_claim():
            return self._end(self.board.accuse(self._claim))
        return None

    def leave(self, reason: str) -> None:
        self._asked = True  # Our own loop knows.
        # A static rendezvous takes nobody in who comes later: there all hosts end when one does.
        if self._handler.get_backend() != "static":
            self.board.ask(Cause.LEFT, reason)

    def accuse(self, failure: Failure, now_s: float) -> None:
        self._claim = Broken(f"rank {failure.rank}: {failure.what}", Cause.FAILED, self.board.name, failure)
        self._claimed_s = now_s

    def finish(self) -> None:
        self.finishing = True
        self.board.finish()

    def go(self) -> None:
        """Whatever comes now, this host is not missed."""
        self.over = True
        self.board.beat(GONE)

    def _end(self, word: Broken) -> Broken:
        self.over = True
        return word

    def _was_told_to_stop(self) -> bool:
        """So our workers say, and then it is what all hosts were asked for."""
        claim = self._claim
        return claim is not None and claim.failure is not None and claim.failure.kind is FailureClass.PREEMPTED

    def _may_claim(self) -> bool:
        """A torn connection is what one sees of another host's failure: that host, if it still can, says so first."""
        assert self._claim is not None
        assert self._claim.failure is not None
        hesitates = self._claim.failure.kind is FailureClass.COMMUNICATION
        return not hesitates or self._liveness.all_heard_since(self._claimed_s + _HEARD_AFTER_S)

    def _beat(self, now_s: float) -> Broken | None:
        self._count += 1
        self.board.beat(str(self._count))
        self._liveness.hear(self.board.beats(self._liveness.hosts), now_s)
        for host, silent_s in self._liveness.silent(now_s).items():
            reason = f"{self._names[host]} is lost: nothing was heard of it for {silent_s:.0f} s"
            return self._end(self.board.accuse(Broken(reason, Cause.LOST, self.board.name)))
        if not self._asked and not self.finishing and self._handler.num_nodes_waiting() > 0:
            self._asked = True
            return self.board.ask(Cause.JOINING, "another host comes in")
        return None
