"""How `relight diff` looks: a table of tensors and a list of values, or JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.table import Table
from rich.text import Text

from .printing import console, shortened

Facts = dict[str, Any]

_LONGEST = 60
"""Characters of a value that are shown; JSON has all of it."""


def print_comparison(facts: Facts, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
        return
    for side in "ab":
        sys.stdout.write(f"{side}  {facts[side]['url']}@{facts[side]['step']}\n")
    if facts["equal"]:
        sys.stdout.write("equal: every tensor and every value\n")
        return
    sys.stdout.flush()
    if facts["tensors"]:
        console().print(_tensors(facts["tensors"]))
    for found in facts["state"]:
        sides = ", ".join(f"{side}: {shortened(found[side], _LONGEST)}" for side in "ab" if side in found)
        where = "" if {"a", "b"} <= found.keys() else f" (only in {'a' if 'a' in found else 'b'})"
        sys.stdout.write(f"{found['path']}{where}  {sides}\n")


def _tensors(found: list[Facts]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("tensor", "differs in", "elements", "share", "max abs diff"):
        table.add_column(name, justify="left" if name in {"tensor", "differs in"} else "right", overflow="fold")
    for each in found:
        if each["what"] == "values":
            largest = each["max_abs_diff"]
            apart = largest if isinstance(largest, str) else f"{largest:.6g}"
            numbers = (str(each["differing"]), f"{each['share']:.2%}", apart)
            table.add_row(*map(Text, (each["name"], "values", *numbers)))
        elif each["what"] == "shape or dtype":
            table.add_row(*map(Text, (each["name"], f"{_kind(each['a'])} / {_kind(each['b'])}")))
        else:
            table.add_row(*map(Text, (each["name"], each["what"])))
    return table


def _kind(tensor: Facts) -> str:
    return f"{tensor['dtype']} {' x '.join(map(str, tensor['shape'])) or 'scalar'}"
