"""How a run is doing: what its launchers' journals, its generations and its newest checkpoint say. No torch."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ...configs.protocol import ExitCode
from ...storage import generations
from ...storage.backends.base import Backend
from ...storage.backends.open import open_backend
from ...storage.catalog import Catalog
from ...storage.choosing import catalog
from ...storage.errors import NotFound
from ..accounting.documents import read_lives
from ..accounting.ledger import LAUNCHER_LOST, Account, account, chain
from ..accounting.lives import Life

Facts = dict[str, Any]

SILENT_AFTER_S: Final = 30.0
"""A living launcher shows how things are every ten seconds."""
_SILENT_WITHOUT_NOW_S: Final = 900.0
_STATES: Final = {
    ExitCode.FINISHED: "finished",
    ExitCode.PREEMPTED: "preempted",
    ExitCode.GAVE_UP: "gave up",
    ExitCode.BAD_CONFIG: "refused its configuration",
    ExitCode.INTERRUPTED: "interrupted",
}


def status(url: str, now: float) -> Facts:
    """Everything that `relight status` shows. `now` is the wall clock's time.

    Raises:
        NotFound: there is no run at this URL, or no launcher has written a journal there.
    """
    return status_at(open_backend(url), now)


def status_at(backend: Backend, now: float) -> Facts:
    """The same of storage that is open already."""
    found = read_lives(backend)
    if not found:
        raise NotFound(_nothing(backend))
    return describe(backend, found, now)


def describe(backend: Backend, found: list[Life], now: float) -> Facts:
    """The same, where the lives are known; there is one at least."""
    spans = chain(found)
    newest = spans[-1].life if spans else found[-1]
    counted = list({id(span.life): span.life for span in spans}.values()) or [newest]
    books = account(found)
    return {
        "url": backend.url,
        **_state(newest, now),
        "generation": _generation(backend, counted),
        "lives": len(counted),
        **_progress(newest, counted),
        "committed": _committed(backend, now),
        "hosts": [_host(life, now) for life in found if life.leader == newest.incarnation],
        "last_failure": _last_failure(found, now),
        **_accounts(books),
    }


def is_over(facts: Facts) -> bool:
    """Nothing will change until somebody launches the run again."""
    return facts["state"] not in {"running", "silent"}


def _nothing(backend: Backend) -> str:
    try:
        catalog(backend)
    except NotFound as error:
        return str(error)
    return (
        f"no launcher has written a journal at {backend.url}: a script's run has its own in the folder that "
        "--log-dir names, which this command reads as well"
    )


def _state(life: Life, now: float) -> Facts:
    quiet_s = max(0.0, now - life.last_at)
    doing = life.newest.facts.get("doing", "starting") if life.newest is not None else "starting"
    if life.exit_code is not None:
        state = _STATES.get(ExitCode(life.exit_code), "failed") if life.exit_code in set(ExitCode) else "failed"
        doing = ""
    else:
        state = "silent" if quiet_s > (SILENT_AFTER_S if life.shows_now else _SILENT_WITHOUT_NOW_S) else "running"
    return {"state": state, "doing": doing, "exit_code": life.exit_code, "heard_s_ago": round(quiet_s, 3)}


def _generation(backend: Backend, counted: list[Life]) -> int | None:
    """The newest one that a launcher of this journal has claimed."""
    incarnations = {life.incarnation for life in counted}
    known = generations.read_all(backend)
    return max((number for number, each in known.items() if each and each.incarnation in incarnations), default=None)


def _progress(newest: Life, counted: list[Life]) -> Facts:
    """Of the newest life that has got so far as to know a step."""
    known = [life.newest.facts for life in counted if life.newest is not None and life.newest.step >= 0]
    facts = newest.newest.facts if newest.newest is not None else {}
    place = newest.place or {}
    return {
        "step": known[-1]["step"] if known else None,
        "attempt": facts.get("attempt"),
        "world_size": place.get("world_size"),
    }


def _committed(backend: Backend, now: float) -> Facts | None:
    checkpoint = next(Catalog(backend).committed(), None)
    if checkpoint is None:
        return None
    saved_at = checkpoint.manifest.saved_at
    age_s = now - datetime.fromisoformat(saved_at).timestamp()
    return {"step": checkpoint.step, "saved_at": saved_at, "age_s": round(max(0.0, age_s), 3)}


def _host(life: Life, now: float) -> Facts:
    place = life.place or {}
    first, count = place.get("first_rank"), place.get("local_world_size")
    ranks = list(range(first, first + count)) if isinstance(first, int) and isinstance(count, int) else []
    return {"host": life.host, "ranks": ranks, "incarnation": life.incarnation, **_state(life, now)}


def _last_failure(found: list[Life], now: float) -> Facts | None:
    """The newest on any host, with what was decided about it."""
    failures = [
        (line, next((each for each in life.events[number:] if each["event"] == "decided"), {}), life)
        for life in found
        for number, line in enumerate(life.events)
        if line["event"] == "failed"
    ]
    if not failures:
        return None
    line, decided, life = max(failures, key=lambda each: float(each[0]["at"]))
    told = {name: line.get(name) for name in ("kind", "what", "rank", "step", "attempt")}
    return {
        **told,
        "host": life.host,
        "age_s": round(max(0.0, now - line["at"]), 3),
        "decision": decided.get("decision"),
        "reason": decided.get("reason"),
    }


def _accounts(books: Account) -> Facts:
    costliest_first = sorted(books.lost_by_cause_s.items(), key=lambda each: -each[1])
    return {
        "goodput": _rounded(books.goodput),
        "ettr": _rounded(books.ettr),
        "mtbf_s": _rounded(books.mtbf_s),
        "failures": dict(books.failures.most_common()),
        "launchers_lost": books.failures[LAUNCHER_LOST],
        "restarts": books.restarts,
        "restart_median_s": _rounded(books.median_restart_s),
        "restart_longest_s": _rounded(max(books.came_back_s, default=None)),
        "steps_redone": books.steps_redone,
        "lost_by_cause_s": {cause: round(seconds, 3) for cause, seconds in costliest_first},
        "wall_s": round(books.wall_s, 3),
        "seconds": {str(heading): round(seconds, 3) for heading, seconds in books.seconds.items()},
        "evaluation_s": round(books.evaluation_s, 3),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
