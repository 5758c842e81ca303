"""What must hold on every disk that a crash may leave: nothing that was promised is lost, nothing else is used.

`from relight.tests.crash.checking import Checker`
"""

from __future__ import annotations

import functools
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from relight.storage import generations, runs, sweep
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Standing
from relight.storage.digest import digest
from relight.storage.errors import NotFound, StorageError
from relight.storage.retention import Rules
from relight.storage.verify import verify
from relight.tests.crash.lives import (
    IDENTITY,
    JOURNAL_KEY,
    KEEP_LAST,
    Claimed,
    Committed,
    Journalled,
    Registered,
    root_of,
)
from relight.tests.crash.posix import Filesystem, Tree
from relight.tests.storage.checkpoints import attempt_id, save

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from relight.storage.backends.base import Backend
    from relight.storage.manifest import Manifest
    from relight.tests.crash.recording import Op


@dataclass(slots=True)
class Checker:
    """Lays out every state below `scratch` and looks at it with the product's own reader."""

    scratch: Path
    keep_last: int = KEEP_LAST
    recover_every: int = 0
    """On every so-many-th new state a next life is begun as well: it must come to a commit and leave nothing behind."""
    states: int = 0
    recovered: int = 0
    seen: set[tuple[frozenset[tuple[str, bytes | None]], int]] = field(default_factory=set)
    trees: set[frozenset[tuple[str, bytes | None]]] = field(default_factory=set)
    proofs: dict[object, str] = field(default_factory=dict)

    def run(self, base: Path, ops: Sequence[Op], *, start: int = 0, seed: int = 0) -> Iterator[str]:
        """All problems in all states after each step from `start` on; each says after which step it was found."""
        chance = random.Random(seed)
        filesystem = Filesystem(base)
        promises: list[object] = []
        for number, op in enumerate(ops):
            filesystem.apply(op)
            if op.kind == "mark":
                promises.append(op.mark)
            if number < start:
                continue
            for tree in filesystem.after_a_cut(chance):
                for problem in self._check(tree, promises):
                    yield f"after step {number} ({op}): {problem}"

    def _check(self, tree: Tree, promises: Sequence[object]) -> list[str]:
        content = frozenset(tree.items())
        self.states += 1
        if (content, len(promises)) in self.seen:
            return []
        self.seen.add((content, len(promises)))
        base = self.scratch / "state"
        _lay_out(base, tree)
        try:
            backend = LocalBackend(root_of(base))
            problems = [
                *self._attempts(backend, tree, promises),
                *record_problems(backend, promises),
                *_journal(backend, promises),
            ]
            if content not in self.trees and self.recover_every and len(self.trees) % self.recover_every == 0:
                problems += self._recover(backend)
            self.trees.add(content)
        finally:
            shutil.rmtree(base)
        return problems

    def _attempts(self, backend: Backend, tree: Tree, promises: Sequence[object]) -> Iterator[str]:
        found = set()
        for listed in Catalog(backend).listing():
            if listed.standing is Standing.DAMAGED:
                yield f"FALSE: {listed.id.name} came out damaged: {listed.reason}"
            elif listed.standing is Standing.COMMITTED:
                assert listed.manifest is not None
                found.add(listed.id)
                if wrong := self._disproof(backend, listed.manifest, tree):
                    yield f"FALSE: {listed.id.name} would be used: {wrong}"
        committed = sorted(promise.id for promise in promises if isinstance(promise, Committed))
        for promised in committed[-self.keep_last :]:
            if promised not in found:
                yield f"LOST: {promised.name}, which was announced as committed"

    def _disproof(self, backend: Backend, manifest: Manifest, tree: Tree) -> str:
        """Empty when every byte is proven and is what was saved at that step."""
        folder = manifest.id.folder
        key = frozenset(item for item in tree.items() if folder in item[0])
        if key not in self.proofs:
            damage = verify(backend, manifest)
            expected = expected_digest(manifest.step)
            self.proofs[key] = "; ".join(map(str, damage)) or (
                "" if digest(backend, manifest) == expected else "it holds another state than was saved"
            )
        return self.proofs[key]

    def _recover(self, backend: LocalBackend) -> Iterator[str]:
        """The next life: it goes on from what is there, commits, and clears away all that was there before."""
        self.recovered += 1
        runs.register(backend, IDENTITY)
        newest = next(Catalog(backend).committed(), None)
        claim = generations.claim(
            backend, incarnation="next", resumed_from=newest.step if newest else None, host="here"
        )
        now = attempt_id(newest.step + 1 if newest else 1, claim.number)
        save(backend, now)
        sweep.maintain(backend, now, Rules(keep_last=1))
        kept = [checkpoint.manifest for checkpoint in Catalog(backend).committed()]
        if kept[0].id != now:
            yield f"STUCK: the next life's save is not the newest, {kept[0].id.name} is"
        if strangers := _strangers(Path(backend.url), kept):
            yield f"LEFT BEHIND: {strangers}"


def _journal(backend: Backend, promises: Sequence[object]) -> Iterator[str]:
    journalled = max((promise.lines for promise in promises if isinstance(promise, Journalled)), default=0)
    lines = backend.read(JOURNAL_KEY).splitlines(keepends=True) if backend.list("journal/") else []
    if set(lines) - {b"a line of the journal\n"}:
        yield f"FALSE: the journal is torn: {lines}"
    if len(lines) < journalled:
        yield f"LOST: {journalled - len(lines)} lines of the journal"


def record_problems(backend: Backend, promises: Sequence[object]) -> Iterator[str]:
    numbers = generations.read_all(backend)
    if any(record is None for record in numbers.values()):
        yield "FALSE: a generation's record came out damaged"
    for promise in promises:
        if isinstance(promise, Claimed) and promise.number not in numbers:
            yield f"LOST: generation {promise.number}"
    registered = {promise.run for promise in promises if isinstance(promise, Registered)}
    try:
        there = {runs.read(backend).run}
    except NotFound:
        there = set()
    except StorageError as error:
        yield f"FALSE: {error}"
        return
    if registered and registered != there:
        yield f"LOST: the run's record: {registered} were told, {there} is there"


@functools.cache
def expected_digest(step: int) -> str:
    """The global state that is saved at `step`, by a world of one, undisturbed."""
    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(Path(folder))
        return digest(backend, save(backend, attempt_id(step), world_size=1))


def _strangers(root: Path, kept: Sequence[Manifest]) -> list[str]:
    """Files and folders below checkpoints/ that belong to no checkpoint."""
    own = set()
    for manifest in kept:
        ranks = range(manifest.world_size)
        own |= {manifest.id.folder[:-1], manifest.id.receipts[:-1], manifest.id.manifest_key}
        own |= {manifest.id.receipt_key(rank) for rank in ranks} | {manifest.shard_key(rank) for rank in ranks}
    there = {str(path.relative_to(root)) for path in (root / "checkpoints").rglob("*")}
    return sorted(there - own)


def _lay_out(base: Path, tree: Tree) -> None:
    base.mkdir()
    for name in sorted(tree):
        content = tree[name]
        if content is None:
            (base / name).mkdir()
        else:
            (base / name).write_bytes(content)
