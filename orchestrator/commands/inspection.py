"""Looking at a run's storage: what `ls`, `show` and `verify` know, as plain JSON values. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from ...storage.backends.base import Backend
from ...storage.backends.open import open_backend
from ...storage.catalog import Catalog, Checkpoint, Listed, Standing
from ...storage.digest import digest
from ...storage.errors import Damaged, NotFound
from ...storage.manifest import Manifest
from ...storage.reading import ShardReader
from ...storage.verify import verify

Facts = dict[str, Any]

_AT_STEP = re.compile(r"(?P<url>.+)@(?P<step>[0-9]+)")


def split_target(target: str) -> tuple[str, int | None]:
    """`URL@STEP` as the URL and the step; a URL alone has no step."""
    match = _AT_STEP.fullmatch(target)
    return (match["url"], int(match["step"])) if match else (target, None)


def list_checkpoints(url: str) -> list[Facts]:
    """Every attempt at the URL, newest first.

    Raises:
        NotFound: there is no run at this URL.
    """
    return [_listed(listed) for listed in _catalog(open_backend(url)).listing()]


def show_checkpoint(target: str) -> Facts:
    """One checkpoint: its tensors, shards and state. Raises NotFound, or Damaged when a header cannot be proven."""
    backend, checkpoint = _open(target)
    manifest = checkpoint.manifest
    readers = [ShardReader(backend, manifest, rank) for rank in range(manifest.world_size)]
    layouts = [reader.layout() for reader in readers]
    tensors = {
        placed.piece.name: {"dtype": placed.piece.dtype, "shape": list(placed.piece.global_shape)}
        for layout in layouts
        for placed in layout.placed
    }
    return {
        **_facts(manifest),
        "shards": [
            {"file": reader.key, "bytes": reader.size, "tensors": len(layout.placed)}
            for reader, layout in zip(readers, layouts, strict=True)
        ],
        "tensors": dict(sorted(tensors.items())),
        "state": {key: value for layout in layouts for key, value in layout.state.items()},
    }


def digest_checkpoint(target: str, on_fallback: Callable[[str], object]) -> str:
    """The digest of the newest checkpoint of which every byte is proven, or of exactly the step that is asked for.

    `on_fallback` is told of each newer checkpoint that was passed over. Raises Damaged for a step that was asked for.
    """
    url, step = split_target(target)
    backend = open_backend(url)
    if step is not None:
        return digest(backend, _catalog(backend).find(step).manifest)
    for checkpoint in _catalog(backend).committed():
        try:
            return digest(backend, checkpoint.manifest)
        except Damaged as error:
            on_fallback(f"step {checkpoint.step} is passed over: {error}")
    message = f"there is no valid checkpoint at {url}"
    raise NotFound(message)


def verify_checkpoints(target: str, on_bytes: Callable[[int], object] = lambda _: None) -> Iterator[Facts]:
    """Read every byte: of the step that is asked for, or of all checkpoints, newest first. One result each.

    Raises:
        NotFound: there is nothing to verify.
    """
    url, step = split_target(target)
    backend = open_backend(url)
    found = False
    for listed in _catalog(backend).listing():
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
        for listed in _catalog(open_backend(url)).listing()
        if listed.manifest is not None and step in {None, listed.id.step}
    )


def _damage(backend: Backend, listed: Listed, on_bytes: Callable[[int], object]) -> list[Damaged]:
    if listed.manifest is None:
        return [Damaged(listed.id.manifest_key, listed.reason.removeprefix(f"{listed.id.manifest_key} is damaged: "))]
    return verify(backend, listed.manifest, on_bytes)


def _open(target: str) -> tuple[Backend, Checkpoint]:
    url, step = split_target(target)
    backend = open_backend(url)
    return backend, _catalog(backend).find(step)


def _catalog(backend: Backend) -> Catalog:
    if not backend.list(""):
        message = f"there is no run at {backend.url}"
        raise NotFound(message)
    return Catalog(backend)


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
