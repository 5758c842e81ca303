"""Looking at a run's storage: what `ls`, `show` and `verify` know, as plain JSON values. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ...storage.backends.base import Backend
from ...storage.backends.open import open_backend
from ...storage.catalog import Checkpoint, Listed, Standing
from ...storage.choosing import Complain, catalog, choices
from ...storage.digest import digest
from ...storage.errors import Damaged, NotFound
from ...storage.manifest import Manifest
from ...storage.reading import ShardReader
from ...storage.target import split_target
from ...storage.verify import verify
from ...storage.whole import Whole
from ..errors import UsageError

Facts = dict[str, Any]


def list_checkpoints(url: str) -> list[Facts]:
    """Every attempt at the URL, newest first.

    Raises:
        NotFound: there is no run at this URL.
    """
    return [_listed(listed) for listed in catalog(open_backend(url)).listing()]


def show_checkpoint(target: str, only: str = "") -> Facts:
    """One checkpoint: its tensors, shards and state. Raises NotFound, or Damaged when a header cannot be proven.

    `only`: of tensors and state one part, `model` or `optimizer`.
    """
    backend, checkpoint = _open(target)
    manifest = checkpoint.manifest
    readers = [ShardReader(backend, manifest, rank) for rank in range(manifest.world_size)]
    layouts = [reader.layout() for reader in readers]
    names = [placed.piece.name for layout in layouts for placed in layout.placed]
    _refuse_unknown(only, manifest, [*names, *(name for layout in layouts for name in layout.state)])
    tensors = {
        placed.piece.name: {"dtype": placed.piece.dtype, "shape": list(placed.piece.global_shape)}
        for layout in layouts
        for placed in layout.placed
        if _belongs(placed.piece.name, only)
    }
    return {
        **_facts(manifest),
        "shards": [
            {"file": reader.key, "bytes": reader.size, "tensors": len(layout.placed)}
            for reader, layout in zip(readers, layouts, strict=True)
        ],
        "tensors": dict(sorted(tensors.items())),
        "state": {key: value for layout in layouts for key, value in layout.state.items() if _belongs(key, only)},
    }


def digest_checkpoint(target: str, on_fallback: Complain, only: str = "") -> str:
    """The digest of the newest checkpoint of which every byte is proven, or of exactly the step that is asked for.

    `only`: of one part of the state, `model` or `optimizer`. `on_fallback` is told of each newer checkpoint that was
    passed over. Raises Damaged for a step that was asked for, and NotFound when there is none.
    """
    url, step = split_target(target)
    backend = open_backend(url)
    for manifest in choices(backend, step):
        try:
            if only:
                whole = Whole(backend, manifest)
                _refuse_unknown(only, manifest, [*whole.tensors, *whole.state])
            return digest(backend, manifest, only=only)
        except Damaged as error:
            if step is not None:
                raise
            on_fallback(f"step {manifest.step} is passed over: {error}")
    raise AssertionError  # They end with an error of their own.


def verify_checkpoints(target: str, on_bytes: Callable[[int], object] = lambda _: None) -> Iterator[Facts]:
    """Read every byte: of the step that is asked for, or of all checkpoints, newest first. One result each.

    Raises:
        NotFound: there is nothing to verify.
    """
    url, step = split_target(target)
    backend = open_backend(url)
    found = False
    for listed in catalog(backend).listing():
        if listed.standing is Standing.UNFINISHED or step not in {None, listed.id.step}:
            continue
        found = True
        damage = [{"file": error.key, "reason": error.reason} for error in _damage(backend, listed, on_bytes)]
        yield {"step": listed.id.step, "name": listed.id.name, "valid": not damage, "damage": damage}
    if not found:
        what = "no committed checkpoint" if step is None else f"no committed checkpoint of step {step}"
        message = f"there is {what} at {backend.url}"
        raise NotFound(message)


def stored_bytes(target: str) -> int:
    """How many bytes `verify_checkpoints` is going to read, for a progress bar."""
    url, step = split_target(target)
    return sum(
        listed.manifest.size
        for listed in catalog(open_backend(url)).listing()
        if listed.manifest is not None and step in {None, listed.id.step}
    )


def _damage(backend: Backend, listed: Listed, on_bytes: Callable[[int], object]) -> list[Damaged]:
    if listed.manifest is None:
        return [Damaged(listed.id.manifest_key, listed.reason.removeprefix(f"{listed.id.manifest_key} is damaged: "))]
    return verify(backend, listed.manifest, on_bytes)


def _refuse_unknown(only: str, manifest: Manifest, names: Iterable[str]) -> None:
    """A part that is misspelt would be one with nothing in it."""
    parts = sorted({name.partition("/")[0] for name in names})
    if only and only not in parts:
        message = f"step {manifest.step} has no part {only!r}; its parts are {', '.join(parts)}"
        raise UsageError(message)


def _belongs(name: str, only: str) -> bool:
    return not only or name == only or name.startswith(f"{only}/")


def _open(target: str) -> tuple[Backend, Checkpoint]:
    url, step = split_target(target)
    backend = open_backend(url)
    return backend, catalog(backend).find(step)


def _listed(listed: Listed) -> Facts:
    facts = _facts(listed.manifest) if listed.manifest is not None else {"step": listed.id.step, "name": listed.id.name}
    return {**facts, "standing": listed.standing.value, "reason": listed.reason}


def _facts(manifest: Manifest) -> Facts:
    progress = manifest.progress
    return {
        "step": manifest.step,
        "name": manifest.id.name,
        "epoch": progress.epoch,
        "samples": progress.samples,
        "loss": progress.loss,
        "metrics": progress.metrics,
        "saved_at": manifest.saved_at,
        "bytes": manifest.size,
        "world_size": manifest.world_size,
        "generation": manifest.generation,
        "attempt": manifest.attempt,
        "run": manifest.run,
    }
