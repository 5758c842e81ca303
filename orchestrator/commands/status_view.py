"""How `relight status` looks: once, or again and again until the run ends; text for people, JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .status import is_over

Facts = dict[str, Any]

REFRESH_S: Final = 2.0
_HOW_LONG: Final = (("d", 86400), ("h", 3600), ("min", 60))


def print_status(facts: Facts, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    else:
        _console().print(render(facts))


def follow(look: Callable[[], Facts], pause: Callable[[float], object], *, as_json: bool) -> None:
    """Until the run is over: in place on a terminal, a line at each look elsewhere."""
    console = _console()
    if as_json or not console.is_terminal:
        _follow_in_lines(look, pause, as_json=as_json)
        return
    from rich.live import Live

    facts = look()
    with Live(render(facts), console=console, auto_refresh=False) as live:
        while not is_over(facts):
            pause(REFRESH_S)
            facts = look()
            live.update(render(facts), refresh=True)


def _follow_in_lines(look: Callable[[], Facts], pause: Callable[[float], object], *, as_json: bool) -> None:
    while True:
        facts = look()
        sys.stdout.write((json.dumps(facts) if as_json else line(facts)) + "\n")
        sys.stdout.flush()
        if is_over(facts):
            return
        pause(REFRESH_S)


def line(facts: Facts) -> str:
    """The run in one line."""
    return (
        f"{_state(facts)}; step {_or_none(facts['step'])}, committed {_committed(facts)}; "
        f"goodput {_percent(facts['goodput'])}, {sum(facts['failures'].values())} failures"
    )


def render(facts: Facts) -> RenderableType:
    parts: list[RenderableType] = [_pairs(_standing(facts)), "", _times(facts)]
    if facts["lost_by_cause_s"]:
        lost = [(cause, duration(seconds)) for cause, seconds in facts["lost_by_cause_s"].items()]
        parts += ["", "time lost by cause", _pairs([(f"  {cause}", text) for cause, text in lost])]
    return Group(*parts)


def _standing(facts: Facts) -> list[tuple[str, str]]:
    restarts = str(facts["restarts"])
    if facts["restart_median_s"] is not None:
        longest = duration(facts["restart_longest_s"])
        restarts += f"; from failure to step: median {duration(facts['restart_median_s'])}, longest {longest}"
    kinds = ", ".join(f"{kind} {count}" for kind, count in facts["failures"].items()) or "none"
    between = f"; one in {duration(facts['mtbf_s'])} (MTBF)" if facts["mtbf_s"] is not None else ""
    rows = [
        ("run", facts["url"]),
        ("state", _state(facts)),
        ("step", f"{_or_none(facts['step'])}, {_which(facts)}"),
        ("committed", _committed(facts)),
        *(("host", _host(host)) for host in facts["hosts"]),
        ("failures", f"{kinds}{between}"),
        ("restarts", restarts),
        ("goodput", f"{_percent(facts['goodput'])} of the time that launchers lived went into work that stands"),
        ("ETTR", f"{_percent(facts['ettr'])} of all time since the first launch"),
    ]
    if facts["last_failure"] is not None:
        rows.insert(-4, ("last failure", _failure(facts["last_failure"])))
    return rows


def _state(facts: Facts) -> str:
    if facts["state"] == "silent":
        return f"silent for {duration(facts['heard_s_ago'])}: its launcher is gone, or cannot reach the storage"
    ago = f"{duration(facts['heard_s_ago'])} ago"
    if facts["state"] == "running":
        return f"running ({facts['doing']}), as of {ago}; what came since is not booked yet"
    return f"{facts['state']} (exit code {facts['exit_code']}) {ago}"


def _which(facts: Facts) -> str:
    return f"generation {_or_none(facts['generation'])}, attempt {_or_none(facts['attempt'])}"


def _committed(facts: Facts) -> str:
    committed = facts["committed"]
    return "nothing" if committed is None else f"step {committed['step']}, {duration(committed['age_s'])} ago"


def _host(host: Facts) -> str:
    ranks = host["ranks"]
    which = "no ranks yet" if not ranks else f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]}-{ranks[-1]}"
    silent = f", silent for {duration(host['heard_s_ago'])}" if host["state"] == "silent" else ""
    return f"{host['host']}: {which}{silent}"


def _failure(failure: Facts) -> str:
    step = failure["step"]
    at_step = f" at step {step}" if isinstance(step, int) and step >= 0 else ""
    decision = f"; {failure['decision'].lower()}: {failure['reason']}" if failure["decision"] else ""
    return (
        f"{duration(failure['age_s'])} ago, rank {failure['rank']} on {failure['host']}{at_step}: "
        f"{failure['what']} ({failure['kind']}){decision}"
    )


def _times(facts: Facts) -> Table:
    wall_s = facts["wall_s"]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("time", "", ""):
        table.add_column(name, justify="right" if not name else "left")
    for heading, seconds in facts["seconds"].items():
        table.add_row(*_time(heading.replace("_", " "), seconds, wall_s))
        if heading == "productive" and facts["evaluation_s"]:
            table.add_row(*_time("  of it evaluation", facts["evaluation_s"], wall_s))
    table.add_row(*_time("wall clock", wall_s, wall_s))
    return table


def _time(name: str, seconds: float, wall_s: float) -> tuple[Text, ...]:
    share = seconds / wall_s if wall_s else 0.0
    return tuple(map(Text, (name, duration(seconds), _percent(share))))


def _pairs(rows: list[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def duration(seconds: float) -> str:
    """`0.42 s`, `12 s`, `3 min 20 s`, `4 h 5 min`, `2 d 3 h`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    units = (*_HOW_LONG, ("s", 1))
    whole = round(seconds)
    for number, (unit, length) in enumerate(_HOW_LONG):
        if whole >= length:
            smaller, smaller_length = units[number + 1]
            return f"{whole // length} {unit} {whole % length // smaller_length} {smaller}"
    return f"{whole} s"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _or_none(value: object) -> str:
    return "-" if value is None else str(value)


def _console() -> Console:
    """Full width when piped; names of files and errors stay as they are."""
    width = None if sys.stdout.isatty() else 200
    return Console(highlight=False, markup=False, emoji=False, width=width)
