"""Looks after one host's part in the rendezvous, in a thread: all use of stores is here, and all of it may block."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # Public, not in __all__.
from torch.distributed.elastic.rendezvous import RendezvousHandler

from ..environment import Place
from ..errors import LaunchError, RunEnded
from ..judging.failures import Failure
from . import elastic
from .addresses import interface_of, own_address
from .board import Board, Ending, NotAllCame, Notes
from .liveness import SILENT_S
from .meeting import AllFinished, Broken, Cause, Joined, News, Refused, Waiting
from .placing import Offer, place_of
from .round import Round
from .standing import Standing

_LOOK_EVERY_S: Final = 0.25
_AGAIN_S: Final = 1.0
_FAREWELL_S: Final = 2.0


class Attendant:
    """Carries out one order after the other, and looks at the round in between. `tell` is given the news."""

    def __init__(self, standing: Standing, tell: Callable[[Attendant, News], None]) -> None:
        self._standing = standing
        self._meeting = standing.meeting
        self._tell = tell
        self._handler: RendezvousHandler | None = None
        self._held_in: Store | None = None
        self._notes: Notes | None = None
        self._round: Round | None = None
        self._workers_store: TCPStore | None = None
        self._busy_since_s: float | None = None
        self._trouble_since_s: float | None = None
        self.waits_for_hosts = False
        self.dismissed = False
        self._orders: queue.SimpleQueue[Callable[[Attendant], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="rendezvous", daemon=True).start()

    def dismiss(self) -> None:
        """It is held up, perhaps for ever. Should it come free it must not go on. From any thread."""
        self.dismissed = True

    def order(self, order: Callable[[Attendant], None]) -> None:
        self._orders.put(order)

    def held_up_s(self, now_s: float) -> float:
        """For how long it has been at something that should have ended. From any thread."""
        since_s = self._busy_since_s
        if since_s is None:
            return 0.0
        allowed_s = elastic.join_timeout_s(self._meeting) + elastic.OPERATION_S if self.waits_for_hosts else 0.0
        return now_s - since_s - allowed_s

    @property
    def finishing(self) -> bool:
        """Its own workers have finished, and those of the other hosts are waited for."""
        return self._round is not None and self._round.finishing

    def _serve(self) -> None:
        while not self.dismissed:
            try:
                order = self._orders.get(timeout=_LOOK_EVERY_S if self._in_round else None)
            except queue.Empty:
                order = Attendant._look
            self._busy_since_s = time.monotonic()
            try:
                order(self)
            except elastic.STORE_TROUBLE as error:
                if not self.dismissed:
                    self._troubled(error)
            self._busy_since_s = None
        self._round = self._handler = None  # With it torch's own signs of life end.

    @property
    def _in_round(self) -> bool:
        return self._round is not None and not self._round.over

    def join(self, attempt: int) -> None:
        self.waits_for_hosts = True
        try:
            place = self._meet_in_time(attempt)
        except elastic.CLOSED as error:
            self._tell(self, Refused(self._ended() or elastic.translate(error, self._meeting, met=False)))
        except elastic.STORE_TROUBLE as error:
            self._tell(self, Refused(elastic.translate(error, self._meeting, met=self._standing.met)))
        else:
            self._standing.joined(place)
            self._tell(self, Joined(place))
        finally:
            self.waits_for_hosts = False

    def leave(self, reason: str) -> None:
        if self._in_round:
            assert self._round is not None
            self._round.leave(reason)

    def accuse(self, failure: Failure) -> None:
        if self._in_round:  # Otherwise it is over, and why was told.
            assert self._round is not None
            self._round.accuse(failure, time.monotonic())
            self._look()

    def finish(self) -> None:
        if self._in_round:
            assert self._round is not None
            self._round.finish()
            self._look()

    def go(self) -> None:
        """Leave the round; the others need not wait for a sign of life."""
        if self._round is not None:
            self._round.go()

    def quit(self) -> None:
        """For good: without the handler torch's own signs of life end, too."""
        self.go()
        self._round = self._handler = self._workers_store = None

    def end(self, code: int) -> None:
        """The run has ended, for all hosts."""
        handler, notes = self._handler, self._notes
        if handler is None or notes is None or self._round is None:
            return
        name = socket.gethostname()
        notes.end(Ending(name, code))
        if not self._round.over:
            self._round.board.accuse(Broken(f"ended with exit code {code}", Cause.FAILED, name))
        waiting = handler.num_nodes_waiting()
        handler.shutdown()
        notes.see_all_off(self._round.board.hosts + waiting, _FAREWELL_S)
        self._handler = None

    def _meet_in_time(self, attempt: int) -> Place:
        """A host that has met others before does not give up at once when the rendezvous cannot be reached."""
        ends_at_s, told = time.monotonic() + elastic.join_timeout_s(self._meeting), False
        while True:
            if self._standing.met and self._handler is None and not told:
                told = True  # Before the first trial: it may take a minute.
                self._tell(self, Waiting(elastic.out_of_reach(self._meeting)))
            try:
                self.go()
                return self._meet(attempt)
            except elastic.CONNECTION_LOST as error:
                if not isinstance(error, NotAllCame):
                    self._handler = self._round = None
                    if not self._standing.met or time.monotonic() >= ends_at_s:
                        raise
            threading.Event().wait(_AGAIN_S)

    def _meet(self, attempt: int) -> Place:
        standing = self._standing
        if self._handler is None:
            self._handler, self._held_in = elastic.open_handler(self._meeting)
        self._workers_store = self._round = None
        info = self._handler.next_rendezvous()
        standing.rounds += 1
        # The static rendezvous hands out the same store every time; the dynamic one prefixes it with its own round.
        own_round = standing.rounds if self._handler.get_backend() == "static" else 0
        board = Board(PrefixStore(f"relight/{own_round}", info.store), info.rank, info.world_size, socket.gethostname())
        self._notes = Notes(self._held_in or PrefixStore("relight/notes", info.store))
        address = own_address(self._meeting.endpoint, self._meeting.local_addr)
        if info.rank == 0:
            self._workers_store = elastic.serve_store(0)
        port = self._workers_store.port if self._workers_store is not None else 0
        mine = Offer(
            board.name, standing.processes, attempt, standing.fresh, standing.life, standing.hosts, address, port
        )
        board.beat("0")
        offers = [Offer(**offer) for offer in board.offer(asdict(mine), elastic.OPERATION_S)]
        self._round = Round(board, self._handler, [offer.host for offer in offers], time.monotonic())
        self._trouble_since_s = None
        return place_of(info.rank, offers, interface_of(address))

    def _look(self) -> None:
        assert self._round is not None
        news = self._round.look(time.monotonic())
        self._trouble_since_s = None
        if isinstance(news, AllFinished):
            self._see_all_off()
        if news is not None:
            self._tell(self, news)

    def _see_all_off(self) -> None:
        assert self._handler is not None
        assert self._notes is not None
        assert self._round is not None
        self._notes.end(Ending(self._round.board.name, 0))
        waiting = self._handler.num_nodes_waiting()
        self._handler.shutdown()
        self._notes.see_all_off(self._round.board.hosts + waiting, _FAREWELL_S)
        self._handler = None

    def _troubled(self, error: Exception) -> None:
        """The store cannot be reached. Once is nothing; for long it means that its host is lost."""
        if self._round is None:
            return
        if self._round.finishing:
            # The host of the rendezvous left first, and it leaves when all have finished.
            self._round.over = True
            self._tell(self, AllFinished())
            return
        now_s = time.monotonic()
        self._trouble_since_s = self._trouble_since_s or now_s
        if not self._round.over and now_s - self._trouble_since_s > SILENT_S:
            self._round = self._handler = None
            cause = error.__cause__ or error
            self._tell(self, Broken(f"{self._meeting.where} is lost: {type(cause).__name__}", Cause.LOST))

    def _ended(self) -> LaunchError | None:
        """Why the rendezvous is closed, in the words of the host that closed it."""
        notes = self._notes or (Notes(self._held_in) if self._held_in is not None else None)
        ending = notes.read() if notes is not None else None
        if ending is None:
            return None
        return RunEnded(f"{ending.host} has ended the run, with exit code {ending.code}", ending.code)
