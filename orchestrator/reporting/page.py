"""The page: one document with its own style, that asks the network for nothing. Pure: a story in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from ..commands.status_view import duration
from . import charts, goodput, saves, tables
from .markup import Markup, element, joined
from .story import Story
from .style import STYLE

GENERATOR: Final = "relight report"
"""By this a page is known as one of ours."""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""Whatever a run has put into its journal: nothing is run, and nothing is fetched."""


def page(story: Story, zone: tzinfo = UTC) -> str:
    name = story.url.rstrip("/").rpartition("/")[2].partition("?")[0] or story.url
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="generator", content=GENERATOR),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{name} · Relight"),
        element("style", Markup(STYLE + charts.rules(story))),
    )
    body = element(
        "body",
        element(
            "header", element("h1", name), element("p", _standing(story, zone)), element("p", story.url, class_="url")
        ),
        element("main", _tiles(story), *_sections(story, zone)),
        element("footer", f"Times are {_zone(story, zone)}. Made by relight report.".replace("  ", " ")),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _sections(story: Story, zone: tzinfo) -> list[Markup]:
    return [
        _section("course", "Loss and metrics", charts.charts(story, zone)),
        _section("goodput", "Where the time went", goodput.goodput(story.facts)),
        _section("saves", "Saves", saves.saves(story.saves, zone)),
        _section("failures-section", "Failures", tables.failures(story.failures, zone)),
        _section("lives-section", "Launchers", tables.lives(story.lives, zone)),
    ]


def _section(identity: str, title: str, content: Markup) -> Markup:
    return element("section", element("h2", title), content, id=identity)


def _standing(story: Story, zone: tzinfo) -> Markup:
    made = f"as of {datetime.fromtimestamp(story.told_at, zone):%d %B %Y %H:%M:%S}"
    state = str(story.facts.get("state", "no journal"))
    doing = f" ({story.facts['doing']})" if story.facts.get("doing") else ""
    return joined(element("span", f"{state}{doing}", class_="state", data_state=state), f" {made}")


def _tiles(story: Story) -> Markup:
    facts = story.facts
    step = facts.get("step")
    if step is None:
        step = max((p.step for each in story.series for s in each.stretches for p in s.points), default=None)
    last = _last_loss(story)
    tiles = [
        ("step", "—" if step is None else f"{step:,}".replace(",", " "), _committed(facts)),
        ("loss", "—" if last is None else f"{last:.4g}", "the last one that was told"),
        ("goodput", _share(facts.get("goodput")), "of the time that launchers lived"),
        ("ETTR", _share(facts.get("ettr")), "of all time since the first launch"),
        ("wall clock", duration(facts["wall_s"]) if facts else "—", _launches(facts)),
        ("failures", str(len(story.failures)), _restarts(facts)),
    ]
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value), element("dd", note, class_="note"))
            for name, value, note in tiles
        ),
        class_="tiles",
    )


def _committed(facts: Mapping[str, Any]) -> str:
    committed = facts.get("committed")
    return f"committed {committed['step']}" if committed else "nothing committed" if facts else ""


def _launches(facts: Mapping[str, Any]) -> str:
    count = facts.get("lives")
    return "" if count is None else "one launch" if count == 1 else f"{count} launches"


def _restarts(facts: Mapping[str, Any]) -> str:
    median_s = facts.get("restart_median_s")
    return (
        f"back after {duration(median_s)} (median)"
        if median_s is not None
        else "no restart was needed"
        if facts
        else ""
    )


def _last_loss(story: Story) -> float | None:
    points = [point for stretch in (story.series[0].stretches if story.series else ()) for point in stretch.points]
    return max(points, key=lambda point: point.at).value if points else None


def _share(value: float | None) -> str:
    return "—" if value is None else f"{value:.1%}"


def _zone(story: Story, zone: tzinfo) -> str:
    moment = datetime.fromtimestamp(story.told_at, zone)
    return f"{moment.tzname() or ''} (UTC{moment:%z})"
