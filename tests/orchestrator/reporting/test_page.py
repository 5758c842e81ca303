"""The report as people see it: in a browser, on a phone and on a desk, by day and by night."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from relight.orchestrator.reporting import making
from relight.orchestrator.reporting.page import page
from relight.orchestrator.reporting.story import Failure, Kind, Mark, Point, Save, Series, Story, Stretch
from relight.tests.orchestrator.reporting.browser import Browser, chromium
from relight.tests.orchestrator.reporting.scenes import NOON, TRACEBACK, eventful

pytestmark = pytest.mark.needs("chromium")

PHONE: Final = 390
DESK: Final = 1280
LINE: Final = {False: (0x00, 0x72, 0xB2), True: (0x56, 0xB4, 0xE9)}
GROUND: Final = {False: (0xF6, 0xF7, 0xF9), True: (0x10, 0x13, 0x17)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    over_at = eventful(folder / "run")
    story = making.read(str(folder / "run"), over_at)
    making.write(folder / "report.html", story, making.local_zone(over_at))
    return folder / "report.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_is_whole_fits_its_width_and_complains_of_nothing(
    browser: Browser,
    report: Path,
    width: int,
    dark: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    browser.open(report, width=width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    wider = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.strip, .unseen') && e.offsetParent"
    assert browser.evaluate(f"{wider} && e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML)") == []
    seen = browser.screenshot()
    assert seen.shape[1] == width
    assert _count(seen, GROUND[dark]) > 0.02 * seen.shape[0] * seen.shape[1], "the ground is light or dark"
    chart = _part(browser, seen, ".s0.steps .linear .plot")
    columns = np.flatnonzero(np.any(_near(chart, LINE[dark]), axis=0))
    assert len(columns) > 0.9 * chart.shape[1], "the line goes from one side to the other"
    assert browser.complaints == []


def test_the_chart_has_its_points_and_the_tables_their_rows(browser: Browser, report: Path) -> None:
    browser.open(report, width=DESK)
    assert browser.evaluate("+document.querySelector('.s0.steps .linear .chart').dataset.points") == 100 + 6 + 11
    standing = browser.evaluate("document.querySelector('.s0.steps .linear .line:not(.abandoned)').getAttribute('d')")
    assert len(re.findall(r"[ML]", standing)) == 100
    assert _count_of(browser, "#failures tbody tr") == 2
    assert _count_of(browser, "#lives tbody tr") == 3
    assert _count_of(browser, ".s0.steps .linear .mark.failure") == 2
    assert _count_of(browser, ".s0.steps .linear .mark.preemption") == 1
    assert _count_of(browser, ".s0.steps .linear .save.failed") == 1
    assert browser.evaluate("document.querySelector('#failures pre').textContent").startswith(TRACEBACK)


def test_the_bar_adds_up_to_the_wall_clock(browser: Browser, report: Path) -> None:
    browser.open(report, width=DESK)
    parts = "[...document.querySelectorAll('.bar i')]"
    seconds = browser.evaluate(f"{parts}.map(part => +part.dataset.seconds).reduce((sum, each) => sum + each)")
    story = making.read(str(report.parent / "run"), NOON + 500)
    assert seconds == pytest.approx(story.facts["wall_s"], abs=0.01)
    widths = browser.evaluate(f"{parts}.map(part => part.offsetWidth).reduce((sum, each) => sum + each)")
    assert widths == pytest.approx(browser.evaluate("document.querySelector('.bar').offsetWidth"), abs=12)


def test_everything_can_be_chosen_without_a_script(browser: Browser, report: Path) -> None:
    browser.open(report, width=PHONE)
    assert "<script" not in report.read_text()
    assert _shown(browser) == ["s0 steps linear"]
    for label, shown in (
        ("Wall clock", "s0 time linear"),
        ("Log", "s0 time log"),
        ("accuracy", "s1 time linear"),
        ("Steps", "s1 steps linear"),
        ("loss", "s0 steps log"),
    ):
        browser.evaluate(f"[...document.querySelectorAll('label')].find(e => e.textContent == '{label}').click()")
        assert _shown(browser) == [shown]


def test_a_traceback_unfolds(browser: Browser, report: Path) -> None:
    browser.open(report, width=PHONE)
    assert browser.evaluate("document.querySelector('#failures pre').checkVisibility()") is False
    browser.evaluate("document.querySelector('#failures summary').click()")
    assert browser.evaluate("document.querySelector('#failures pre').checkVisibility()") is True
    assert browser.evaluate("document.documentElement.scrollWidth") == PHONE


def test_what_a_run_wrote_is_never_run(browser: Browser, tmp_path: Path) -> None:
    nasty = '"><img src=x onerror="document.title=1"><script>document.title=2\0\udcff'
    point = Point(NOON, 1, 0.5)
    story = Story(
        url=f"/tmp/{nasty}",
        told_at=NOON,
        series=(Series(nasty, nasty, (Stretch((point, Point(NOON + 1, 2, 0.25))),)),),
        marks=(Mark(Kind.FAILURE, NOON, 1, nasty),),
        saves=(Save(NOON, 1, failed=nasty),),
        failures=(Failure(NOON, nasty, nasty, nasty, details=nasty, beside=(nasty,), decision=nasty),),
    )
    making.write(tmp_path / "report.html", story, making.local_zone(NOON))
    browser.open(tmp_path / "report.html", width=PHONE)
    assert "img" in browser.evaluate("document.title")
    assert _count_of(browser, "img, script") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") == PHONE
    assert browser.complaints == []


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_run_of_a_million_points_and_a_thousand_failures_is_a_small_page(
    browser: Browser, tmp_path: Path, count: int
) -> None:
    points = tuple(Point(NOON + n, n, 1 / (1 + n) + (5 if n == count * 7 // 9 else 0)) for n in range(count))
    series = [Series(f"metric {n}", "evaluation", (Stretch(points[n::40]),)) for n in range(12)]
    failures = tuple(
        Failure(NOON + 40 * n, "USER_BUG", "ValueError", "host", step=40 * n, details=TRACEBACK * 10)
        for n in range(1000)
    )
    marks = tuple(Mark(Kind.FAILURE, each.at, each.step, each.what) for each in failures)
    saves = tuple(Save(NOON + 100 * n, 100 * n, 0.01, 0.5) for n in range(10_000))
    whole = Series("loss", "rank 0's", (Stretch(points),))
    text = page(Story("/runs/long", NOON, (whole, *series), marks, saves, failures))
    print(f"{count} points, 1000 failures: {len(text) / 2**20:.2f} MiB")
    assert len(text) < 2 * 2**20
    (tmp_path / "report.html").write_text(text)
    browser.open(tmp_path / "report.html", width=PHONE)
    assert _count_of(browser, ".mark") < 8 * 2 * 2 * 121
    tops = browser.evaluate("document.querySelector('.s0.steps .linear .line').getAttribute('d').match(/ ([0-9.]+)/g)")
    heights = sorted(float(each) for each in tops)
    assert heights[0] < 20, "the spike is drawn"
    assert heights[1] > 200, "and is one"


def test_a_run_of_which_next_to_nothing_is_known_has_a_page_too(browser: Browser, tmp_path: Path) -> None:
    for number, story in enumerate(
        (
            Story("/runs/none", NOON),
            Story("/runs/one", NOON, (Series("loss", "x", (Stretch((Point(NOON, 7, 0.5),)),)),)),
            Story("/runs/nan", NOON, (Series("loss", "x", (Stretch((Point(NOON, 7, float("nan")),)),)),)),
        )
    ):
        (tmp_path / f"{number}.html").write_text(page(story))
        browser.open(tmp_path / f"{number}.html", width=PHONE)
        assert browser.evaluate("document.documentElement.scrollWidth") == PHONE
        assert "No launcher has kept the books" in browser.evaluate("document.body.textContent")
    assert "No value of loss is a number." in (tmp_path / "2.html").read_text()
    assert "Nobody has told a loss" in (tmp_path / "0.html").read_text()


def _count_of(browser: Browser, selector: str) -> int:
    return int(browser.evaluate(f"document.querySelectorAll('{selector}').length"))


def _shown(browser: Browser) -> list[str]:
    """The figures that are seen: whose series, over what, on which scale."""
    seen = "[...document.querySelectorAll('#course .chart')].filter(e => e.checkVisibility())"
    names = "e => e.closest('.figures > *').className.replace(' has-log', '') + ' ' + e.parentElement.className"
    found: list[str] = browser.evaluate(f"{seen}.map({names})")
    return found


def _part(browser: Browser, seen: np.ndarray[Any, Any], selector: str) -> np.ndarray[Any, Any]:
    box = browser.evaluate(f"JSON.parse(JSON.stringify(document.querySelector('{selector}').getBoundingClientRect()))")
    left, top, width, height = (round(box[name]) for name in ("left", "top", "width", "height"))
    return seen[top : top + height, left : left + width]


def _near(seen: np.ndarray[Any, Any], colour: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Edges are smoothed; the middle of a line has its colour."""
    near: np.ndarray[Any, np.dtype[np.bool_]] = np.all(np.abs(seen.astype(int) - np.array(colour)) < 48, axis=-1)
    return near


def _count(seen: np.ndarray[Any, Any], colour: tuple[int, int, int]) -> int:
    return int(np.all(seen == np.array(colour), axis=-1).sum())
