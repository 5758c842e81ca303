"""From the lives of launchers and the checkpoints that are there to a `Story`. Pure.

Lines of a journal are foreign documents here: an older launcher's, or one that a full disk has cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from ...storage.manifest import Manifest
from ..accounting.lives import Life, Line
from .branches import Branch, stretches
from .events import failures, marks, rows
from .numbers import number, whole
from .story import Point, Save, Series, Story

_RANK_0 = "rank 0's"
_AT_SAVES = "mean over the ranks, at the checkpoints that are there"


def tell(
    url: str, lives: Sequence[Life], manifests: Sequence[Manifest], facts: Mapping[str, Any], told_at: float
) -> Story:
    """`lives` as the accounts have them, `manifests` of the committed checkpoints, `facts` as `relight status` says."""
    loss = _branches(lives, _points) or _of_saves(manifests, lambda manifest: {"loss": manifest.progress.loss})
    metrics = _branches(lives, _evaluations) or _of_saves(manifests, lambda manifest: manifest.progress.metrics)
    what = _RANK_0 if any(_points(line) for life in lives for line in life.events) else _AT_SAVES
    return Story(
        url=url,
        told_at=told_at,
        series=(
            *(Series(name, what, stretches(branches)) for name, branches in loss.items()),
            *(Series(name, "evaluation", stretches(metrics[name])) for name in sorted(metrics)),
        ),
        marks=tuple(marks(lives)),
        saves=tuple(_saves(lives, manifests)),
        failures=tuple(failures(lives)),
        lives=tuple(rows(lives)),
        facts=facts,
    )


def _branches(lives: Sequence[Life], read: Callable[[Line], Iterable[tuple[str, Point]]]) -> dict[str, list[Branch]]:
    """By the name of what was measured: what each start of the workers found, in the order in which they began.

    Every start is in it, also one that measured nothing: it may have gone further back than those around it.
    """
    starts: dict[tuple[str, Any], list[Line]] = defaultdict(list)
    for life in lives:
        for line in life.events:
            if line["event"] in {"resumed", "points", "evaluated"}:
                starts[life.incarnation, line.get("attempt")].append(line)
    in_order = sorted(starts.values(), key=lambda lines: min(_began(line) for line in lines))
    measured = [(_resumed(lines), _by_name(lines, read)) for lines in in_order]
    names = {name: None for _, by_name in measured for name in by_name}
    return {name: [Branch(resumed, tuple(by_name.get(name, ()))) for resumed, by_name in measured] for name in names}


def _began(line: Line) -> float:
    """Points are told later than they were measured."""
    return min([float(line["at"]), *(point.at for _, point in _points(line))])


def _resumed(lines: Sequence[Line]) -> float:
    told = [step for line in lines if line["event"] == "resumed" and (step := whole(line.get("step"))) is not None]
    first = [point.step - 1 for line in lines for _, point in _points(line)]
    return min(told or first, default=float("inf"))


def _by_name(lines: Sequence[Line], read: Callable[[Line], Iterable[tuple[str, Point]]]) -> dict[str, list[Point]]:
    """A step that was measured twice counts once, as it was last."""
    found: defaultdict[str, dict[int, Point]] = defaultdict(dict)
    for line in lines:
        for name, point in read(line):
            found[name][point.step] = point
    return {name: sorted(points.values(), key=lambda point: point.step) for name, points in found.items()}


def _points(line: Line) -> list[tuple[str, Point]]:
    told = line.get("points") if line["event"] == "points" else None
    found = []
    for entry in told if isinstance(told, list) else []:
        if isinstance(entry, list) and len(entry) == 3:
            at, step, value = number(entry[0]), whole(entry[1]), number(entry[2])
            if at is not None and step is not None and value is not None:
                found.append(("loss", Point(at, step, value)))
    return found


def _evaluations(line: Line) -> Iterator[tuple[str, Point]]:
    step, metrics = whole(line.get("step")), line.get("metrics")
    if line["event"] == "evaluated" and step is not None and isinstance(metrics, dict):
        for name, told in metrics.items():
            if (value := number(told)) is not None:
                yield str(name), Point(float(line["at"]), step, value)


def _of_saves(
    manifests: Sequence[Manifest], values: Callable[[Manifest], Mapping[str, Any]]
) -> dict[str, list[Branch]]:
    """Where no launcher has written a journal, or an older one."""
    found: defaultdict[str, list[Point]] = defaultdict(list)
    for manifest in sorted(manifests, key=lambda each: each.step):
        for name, told in values(manifest).items():
            if (value := number(told)) is not None:
                found[name].append(Point(_saved_at(manifest), manifest.step, value))
    return {name: [Branch(-1, tuple(points))] for name, points in found.items()}


def _saves(lives: Sequence[Life], manifests: Sequence[Manifest]) -> list[Save]:
    """What was told of, and the checkpoints that nobody could tell of: their trainer was killed meanwhile."""
    told = [
        Save(float(line["at"]), step, number(line.get("stall_s")), number(line.get("persist_s")), _text(line, "failed"))
        for life in lives
        for line in life.events
        if line["event"] == "saved" and (step := whole(line.get("step"))) is not None
    ]
    known = {save.step for save in told}
    others = [Save(_saved_at(manifest), manifest.step) for manifest in manifests if manifest.step not in known]
    return sorted(told + others, key=lambda save: (save.at, save.step))


def _saved_at(manifest: Manifest) -> float:
    return datetime.fromisoformat(manifest.saved_at).timestamp()


def _text(line: Line, name: str) -> str:
    return str(line.get(name) or "")
