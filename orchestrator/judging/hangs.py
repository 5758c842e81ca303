"""Which rank hangs: from the last beats of all ranks and from what their processes look like. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...configs.heartbeat import Beat
from .failures import Failure, FailureClass
from .patience import Wait


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a stack; `source` is what is written there, where it could be read."""

    file: str
    line: int
    function: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What one rank looks like from outside.

    `state` is the kernel's letter for its process. `threads` are its Python stacks, the main thread's first, the
    innermost frame first; none: it did not answer. `text` is all that was found out, for people.
    """

    state: str = ""
    threads: tuple[tuple[Frame, ...], ...] = ()
    text: str = ""

    @property
    def stack(self) -> tuple[Frame, ...]:
        return self.threads[0] if self.threads else ()

    @property
    def stopped(self) -> bool:
        return self.state == "T"


@dataclass(frozen=True, slots=True)
class Hang:
    """`rank` is the one that the others wait for, `step` its last finished one, `why` says how it was told.

    `elsewhere`: all ranks seen here wait for one that is on another host.
    """

    rank: int
    step: int
    waited_s: float
    limit_s: float
    why: str
    stacks: Mapping[int, Look] = field(default_factory=dict)
    elsewhere: bool = False
    committed_step: int = -1
    resumed_step: int = -1


_COMPILERS: Final = re.compile(
    r"/torch/_dynamo/(convert_frame|symbolic_convert|output_graph)\.py$"
    r"|/torch/_inductor/(graph|scheduler|codecache|async_compile|select_algorithm|cpp_builder)\.py$"
    r"|/triton/compiler/|/triton/backends/|/torch/utils/cpp_extension\.py$"
)
_PARTLY_COMPILERS: Final = re.compile(
    r"/torch/_inductor/(compile_fx|runtime/triton_heuristics)\.py$|/triton/runtime/(jit|autotuner)\.py$"
)
"""Files that are on the stack of what was compiled long ago, too: there the function's name decides."""
_COMPILING: Final = re.compile(r"compile|autotune|benchmark|_bench")

_WAITING: Final = re.compile(
    r"/torch/distributed/|/torch/nn/parallel/|/torch/autograd/(graph|__init__)\.py$"
    r"|/workers/(agreement|checkpoint/collective)\.py$"
)
_OF_EVERY_STEP: Final = re.compile(r"/torch/nn/parallel/|/torch/autograd/|/workers/agreement\.py$")
_LIBRARIES: Final = re.compile(r"/site-packages/|/dist-packages/|/lib/python3\.\d+/|^<frozen ")
_WAITING_CALL: Final = re.compile(r"\.(wait|item|cpu|tolist|synchronize)\(|\bbarrier\(")
"""On a GPU a collective is waited for where its result is looked at."""


def compiles(look: Look) -> bool:
    """It is busy with `torch.compile` and the like, which takes as long as it takes."""
    frames = (frame for thread in look.threads for frame in thread)
    return any(
        _COMPILERS.search(frame.file) or (_PARTLY_COMPILERS.search(frame.file) and _COMPILING.search(frame.function))
        for frame in frames
    )


def waits(look: Look) -> bool:
    """Its main thread stands where a rank waits for the others."""
    return bool(look.stack) and bool(_WAITING.search(look.stack[0].file) or _WAITING_CALL.search(look.stack[0].source))


@dataclass(frozen=True, slots=True)
class Suspect:
    """`elsewhere`: nothing speaks against this rank; all of this host wait, so it may well be another host's."""

    rank: int
    why: str
    elsewhere: bool = False


def suspect(beats: Mapping[int, Beat], looks: Mapping[int, Look]) -> Suspect:
    """The rank that hangs, and how it was told. `looks` has every rank in question.

    In this order: a process that was stopped; a step behind the others'; a main thread that waits for nobody; one that
    stands where most others do not; the oldest beat.
    """
    for question in (_stopped, _behind, _waits_for_nobody, _odd_one_out):
        if answer := question(beats, looks):
            return answer
    rank = min(looks, key=lambda rank: _at_ns(beats, rank))
    together = all(waits(look) for look in looks.values())
    where = "all ranks stand at the same place, and " if len(looks) > 1 else ""
    return Suspect(rank, f"{where}its last sign of life is the oldest", elsewhere=together)


def _stopped(beats: Mapping[int, Beat], looks: Mapping[int, Look]) -> Suspect | None:
    stopped = [rank for rank, look in looks.items() if look.stopped]
    if not stopped:
        return None
    rank = min(stopped, key=lambda rank: (_step(beats, rank), rank))
    return Suspect(rank, "its process is stopped (by a SIGSTOP; state T)")


def _behind(beats: Mapping[int, Beat], looks: Mapping[int, Look]) -> Suspect | None:
    last = min(looks, key=lambda rank: _step(beats, rank))
    step, most = _step(beats, last), max(_step(beats, rank) for rank in looks)
    if step == most or [_step(beats, rank) for rank in looks].count(step) > 1:
        return None
    return Suspect(last, f"it is behind: others have finished step {most}")


def _waits_for_nobody(_: Mapping[int, Beat], looks: Mapping[int, Look]) -> Suspect | None:
    busy = [rank for rank, look in looks.items() if not waits(look)]
    if not busy or len(busy) == len(looks) > 1:
        return None
    rank = min(busy, key=lambda rank: (bool(looks[rank].stack), rank))
    look = looks[rank]
    if not look.stack:
        return Suspect(rank, f"its process does not answer (state {look.state or 'unknown'})")
    others = ", and the others wait for it" if len(looks) > 1 else ""
    return Suspect(rank, f"its main thread is {_place(_own(look.stack))}{others}")


def _odd_one_out(_: Mapping[int, Beat], looks: Mapping[int, Look]) -> Suspect | None:
    """All wait, or nobody does. Where most stand is where they should be; of two, one stands in what no step has."""
    places = {rank: _spots(look.stack) for rank, look in looks.items()}
    counts = Counter(places.values())
    if len(counts) == 1:
        return None
    rarest = min(counts.values())
    odd = [rank for rank in sorted(looks) if counts[places[rank]] == rarest]
    if len(odd) > 1:
        odd = [rank for rank in odd if not (looks[rank].stack and _OF_EVERY_STEP.search(looks[rank].stack[0].file))]
    if not odd or not looks[odd[0]].stack:
        return None
    return Suspect(odd[0], f"its main thread is {_place(_own(looks[odd[0]].stack))}, where the others are not")


def _spots(stack: Sequence[Frame]) -> tuple[tuple[str, int], ...]:
    return tuple((frame.file, frame.line) for frame in stack)


def is_library(frame: Frame) -> bool:
    """It is not the user's, nor anything that is being worked on."""
    return bool(_LIBRARIES.search(frame.file))


def _own(stack: Sequence[Frame]) -> Frame:
    """The innermost frame that is not a library's."""
    return next((frame for frame in stack if not is_library(frame)), stack[0])


def _place(frame: Frame) -> str:
    return f"at {frame.file}:{frame.line} in {frame.function}"


def _step(beats: Mapping[int, Beat], rank: int) -> int:
    """-2 for a rank that has not come so far as to beat."""
    return beats[rank].step if rank in beats else -2


def _at_ns(beats: Mapping[int, Beat], rank: int) -> int:
    return beats[rank].at_ns if rank in beats else 0


def hang_of(wait: Wait, found: Suspect, beats: Mapping[int, Beat], looks: Mapping[int, Look]) -> Hang:
    """What is known of it, together."""
    return Hang(
        rank=found.rank,
        step=_step(beats, found.rank) if found.rank in beats else -1,
        waited_s=wait.waited_s,
        limit_s=wait.limit_s,
        why=found.why,
        stacks=looks,
        elsewhere=found.elsewhere,
        committed_step=max((beat.committed_step for beat in beats.values()), default=-1),
        resumed_step=max((beat.resumed_step for beat in beats.values()), default=-1),
    )


def failure_of(hang: Hang) -> Failure:
    """What the policy decides upon."""
    return Failure(
        kind=FailureClass.HANG,
        rank=hang.rank,
        what=f"it hangs: {hang.why}",
        step=hang.step,
        committed_step=hang.committed_step,
        resumed_step=hang.resumed_step,
        details=_traceback(hang.stacks.get(hang.rank, Look()).stack),
    )


def _traceback(stack: Sequence[Frame]) -> str:
    """As Python prints one: the innermost frame last."""
    if not stack:
        return ""
    lines = [f'  File "{frame.file}", line {frame.line}, in {frame.function}' for frame in reversed(stack)]
    sources = [f"\n    {frame.source}" if frame.source else "" for frame in reversed(stack)]
    return "\n".join(["Stack of the main thread (most recent call last):", *map(str.__add__, lines, sources)])
