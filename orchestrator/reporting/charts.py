"""All charts, and the switches between them: radio buttons and style rules, which need no script. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from .chart import SHAPES, chart
from .markup import Markup, element, joined
from .outline import Frame, Outline, Over, frame, outline
from .story import Kind, Series, Story

MOST_SERIES: Final = 8
"""Each is drawn four times; more would make the page heavy."""
_NAMES: Final = {Over.STEPS: "Steps", Over.TIME: "Wall clock"}
_SCALES: Final = {"linear": "Linear", "log": "Log"}


def charts(story: Story, zone: tzinfo) -> Markup:
    """The section of the values; a sentence where nothing was told."""
    series = [each for each in story.series if each.stretches][:MOST_SERIES]
    if not series:
        return element("p", "Nobody has told a loss: give it to the checkpointer's step(loss=...).", class_="none")
    figures = [figure for over in Over for figure in _figures(story, series, over, zone)]
    switches = _switches(story)
    return joined(
        *(each for name, labels in switches.items() for each in _choices(name, len(labels))),
        element("div", *(_switch(name, labels) for name, labels in switches.items()), class_="switches"),
        element("div", *figures, class_="figures"),
        _legend(story),
        *_left_out(story),
    )


def rules(story: Story) -> str:
    """Which figure is shown for which choice, and which choice looks chosen."""
    switches = _switches(story)
    shown = [
        f"#series-{number}:checked~#over-{place}:checked~.figures>.s{number}.{over}"
        for number in range(len(switches["series"]))
        for place, over in enumerate(Over)
    ]
    ids = [f"{name}-{number}" for name, labels in switches.items() for number in range(len(labels))]
    chosen = [f"#{each}:checked~.switches>*>[for={each}]" for each in ids]
    focused = [f"#{each}:focus-visible~.switches>*>[for={each}]" for each in ids]
    logs = f"#scale-{list(_SCALES).index('log')}:checked~.figures"
    return (
        f"{','.join(shown) or '.figures>*'}{{display:block}}\n"
        f"{','.join(chosen)}{{background:var(--line);border-color:var(--line);color:var(--on);font-weight:600}}\n"
        f"{','.join(focused)}{{outline:3px solid var(--bad);outline-offset:2px}}\n"
        f"{logs} .has-log>.linear{{display:none}}{logs} .has-log>.log{{display:block}}\n"
    )


def _switches(story: Story) -> dict[str, list[str]]:
    """What can be chosen, by what it is that one chooses."""
    series = [each for each in story.series if each.stretches][:MOST_SERIES]
    return {"series": [_label(each) for each in series], "over": list(_NAMES.values()), "scale": list(_SCALES.values())}


def _figures(story: Story, series: Sequence[Series], over: Over, zone: tzinfo) -> list[Markup]:
    outlines = [outline(each, over) for each in series]
    around = frame(over, outlines, story.marks, story.saves, zone)
    return [_figure(each, around, f"s{number}") for number, each in enumerate(outlines)]


def _figure(shown: Outline, around: Frame, name: str) -> Markup:
    log = shown.can_be_log
    return element(
        "div",
        element("p", f"{_label(shown.series)} · {shown.series.what}", class_="what"),
        element("div", chart(shown, around, log=False), class_="linear"),
        element("div", chart(shown, around, log=True), class_="log") if log else None,
        class_=f"{name} {around.over}{' has-log' if log else ''}",
    )


def _choices(name: str, count: int) -> list[Markup]:
    """The buttons themselves are not seen; they come before everything that depends on them."""
    return [element("input", type="radio", name=name, id=f"{name}-{n}", checked=n == 0) for n in range(count)]


def _switch(name: str, labels: Sequence[str]) -> Markup:
    return element("div", *(element("label", label, for_=f"{name}-{n}") for n, label in enumerate(labels)))


def _legend(story: Story) -> Markup:
    kinds = [kind for kind in Kind if any(mark.kind is kind for mark in story.marks)]
    abandoned = any(stretch.abandoned for each in story.series for stretch in each.stretches)
    return element(
        "p",
        _key("line", "", "what stands"),
        _key("line abandoned", "", "done again after a restart") if abandoned else None,
        *(_key(f"mark {kind}", SHAPES[kind], kind.value) for kind in kinds),
        _key("save", "", "save") if any(not save.failed for save in story.saves) else None,
        _key("save failed", "✕", "failed save") if any(save.failed for save in story.saves) else None,
        class_="legend",
    )


def _key(class_: str, sign: str, label: str) -> Markup:
    return element("span", element("i", sign, class_=f"key {class_}"), label)


def _left_out(story: Story) -> list[Markup]:
    names = [_label(each) for each in story.series[MOST_SERIES:]]
    return [element("p", f"Not drawn, for there are too many: {', '.join(names)}.", class_="none")] if names else []


def _label(series: Series) -> str:
    return f"{series.name} (evaluation)" if series.name == "loss" and series.what == "evaluation" else series.name
