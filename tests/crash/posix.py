"""Which disks a power cut may leave behind, under what POSIX promises and no more.

The model (that of ALICE, Pillai et al., OSDI 2014, for a filesystem without any order of its own): the data of a file
is there once it was fsynced; before, there may be nothing, a part, zeros in its place, or all. A change of a folder's
names is there once that folder was fsynced; before, every change alone may or may not have happened.

`from relight.tests.crash.posix import Filesystem`
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from relight.tests.crash.recording import Op

FEW = 6
"""Up to this many unsynced changes every subset is tried: 64."""
SAMPLED = 40
"""Of more changes: none, all, each one alone missing or alone there, and this many random subsets."""

Tree = dict[str, bytes | None]
"""A state of the disk: path below the base to content; None for a folder."""


@dataclass(eq=False, slots=True)
class Node:
    """A file (`data`) or folder (`names`, as they are on the medium)."""

    data: bytes | None = None
    synced: bool = False
    names: dict[str, Node] = field(default_factory=dict)
    live: dict[str, Node] = field(default_factory=dict)
    """What a running program sees."""


Change = tuple[Node, tuple[tuple[str, Node | None], ...]]
"""A folder, and names that get another node (None: vanish) in one atomic step."""


class Filesystem:
    """Takes the recorded steps one by one and tells, after each, what a power cut would leave."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._root = Node()
        self._pending: list[Change] = []

    def apply(self, op: Op) -> None:
        if op.kind == "mark" or op.path is None:
            return
        if op.kind == "sync_dir":
            self._sync_dir(self._at(op.path))
        elif op.kind in {"write", "sync_file"}:
            self._on_file(op, self._at(op.path))
        else:
            self._on_names(op, op.path)

    def _on_file(self, op: Op, node: Node) -> None:
        if op.kind == "write":
            node.data = op.data
        else:
            node.synced = True

    def _on_names(self, op: Op, path: Path) -> None:
        folder = self._at(path.parent)
        if op.kind == "make_dir":
            self._change(folder, (path.name, Node()))
        elif op.kind == "create":
            self._change(folder, (path.name, Node(data=b"")))
        elif op.kind in {"unlink", "remove_dir"}:
            self._change(folder, (path.name, None))
        else:
            assert op.target is not None
            assert op.target.parent == path.parent
            there = (op.target.name, folder.live[path.name])
            self._change(folder, *([there] if op.kind == "link" else [there, (path.name, None)]))

    def _change(self, folder: Node, *names: tuple[str, Node | None]) -> None:
        self._pending.append((folder, names))
        _set(folder.live, names)

    def _sync_dir(self, folder: Node) -> None:
        for changed, names in self._pending:
            if changed is folder:
                _set(folder.names, names)
        self._pending = [change for change in self._pending if change[0] is not folder]

    def _at(self, path: Path) -> Node:
        node = self._root
        for part in path.relative_to(self._base).parts:
            node = node.live[part]
        return node

    def after_a_cut(self, chance: random.Random) -> Iterator[Tree]:
        """Every state (a sample of them, where there are too many) that a power cut now could leave."""
        for survivors in _subsets(self._pending, chance):
            names: dict[Node, dict[str, Node]] = {}
            for folder, changes in survivors:
                _set(names.setdefault(folder, dict(folder.names)), changes)
            torn = list(dict.fromkeys(node for node in _files(self._root, names) if not node.synced))
            for contents in _contents([node.data or b"" for node in torn]):
                yield _tree(self._root, names, dict(zip(torn, contents, strict=True)))


def _set(names: dict[str, Node], changes: Sequence[tuple[str, Node | None]]) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _subsets(changes: Sequence[Change], chance: random.Random) -> Iterator[list[Change]]:
    count = len(changes)
    if count <= FEW:
        masks: set[tuple[bool, ...]] = set(itertools.product((False, True), repeat=count))
    else:
        masks = {(False,) * count, (True,) * count}
        for number in range(count):
            masks.add(tuple(other == number for other in range(count)))
            masks.add(tuple(other != number for other in range(count)))
        masks.update(tuple(chance.random() < 0.5 for _ in range(count)) for _ in range(SAMPLED))
    for mask in sorted(masks):
        yield list(itertools.compress(changes, mask))


def _contents(datas: Sequence[bytes]) -> Iterator[tuple[bytes, ...]]:
    """What may be in files that were not fsynced: nothing, a half, zeros or all; of many files in one at a time."""
    torn = [list(dict.fromkeys([b"", data[: len(data) // 2], bytes(len(data)), data])) for data in datas]
    if len(torn) <= 2:
        yield from itertools.product(*torn)
        return
    for number, kinds in enumerate(torn):
        for kind in kinds:
            yield (*datas[:number], kind, *datas[number + 1 :])


def _files(node: Node, names: Mapping[Node, dict[str, Node]]) -> Iterator[Node]:
    if node.data is not None:
        yield node
    for child in names.get(node, node.names).values():
        yield from _files(child, names)


def _tree(root: Node, names: Mapping[Node, dict[str, Node]], contents: Mapping[Node, bytes]) -> Tree:
    found: Tree = {}

    def visit(node: Node, path: str) -> None:
        for name, child in names.get(node, node.names).items():
            if child.data is None:
                found[path + name] = None
                visit(child, f"{path}{name}/")
            else:
                found[path + name] = contents.get(child, child.data)

    visit(root, "")
    return found
