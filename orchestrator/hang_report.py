"""What is said and recorded of a hang. Text in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .judging.hangs import Frame, Hang, Look, is_library

_FRAMES: Final = 6
_RECORDED: Final = 6000
_RECORDED_OF_OTHERS: Final = 2000
_MOST_RECORDED: Final = 32


def block(hang: Hang, where: str) -> str:
    """For the terminal: who, since when, against what, where it stands, where the others do.

    `where` all stacks are; '': nowhere.
    """
    step = f" after step {hang.step}" if hang.step >= 0 else " before its first step"
    lines = [
        f"rank {hang.rank} hangs{step}: silent for {hang.waited_s:.1f} s, {hang.limit_s:.1f} s are the limit",
        f"  because  {hang.why}",
    ]
    lines += _titled("stack", _shown(hang.stacks.get(hang.rank, Look()), _FRAMES))
    for rank, look in sorted(hang.stacks.items()):
        if rank != hang.rank and len(hang.stacks) <= _MOST_RECORDED:
            lines += _titled(f"rank {rank}", _shown(look, 1))
    lines.append(f"  stacks   of all ranks are in {where}" if where else "  stacks   are kept with --log-dir")
    return "\n".join(lines)


def _titled(title: str, shown: Sequence[str]) -> list[str]:
    return [f"  {title if number == 0 else '':<8} {line}" for number, line in enumerate(shown)]


def _shown(look: Look, most: int) -> list[str]:
    """The innermost frames; of libraries only the first one, for they are deep."""
    if not look.stack:
        return look.text.splitlines()[:1] or ["nothing is known of it"]
    own = [frame for number, frame in enumerate(look.stack) if number == 0 or not is_library(frame)]
    return [_line(frame) for frame in own[:most]]


def _line(frame: Frame) -> str:
    source = f": {frame.source}" if frame.source else ""
    return f"{frame.file}:{frame.line} in {frame.function}{source}"


def facts(hang: Hang) -> dict[str, Any]:
    """For the journal."""
    return {
        "rank": hang.rank,
        "step": hang.step,
        "waited_s": round(hang.waited_s, 3),
        "limit_s": round(hang.limit_s, 3),
        "why": hang.why,
        "ranks": sorted(hang.stacks),
    }


def stacks(hang: Hang) -> list[dict[str, Any]]:
    """For the journal, one entry a rank: the one that hangs first, and the others shorter."""
    ranks = sorted(hang.stacks, key=lambda rank: (rank != hang.rank, rank))[:_MOST_RECORDED]
    most = {hang.rank: _RECORDED}
    return [{"rank": rank, "text": hang.stacks[rank].text[: most.get(rank, _RECORDED_OF_OTHERS)]} for rank in ranks]
