"""One digest over the global state, the same however it was sharded: the way to compare two checkpoints."""

from __future__ import annotations

from typing import Final

import xxhash

from .backends.base import Backend
from .manifest import Manifest
from .sealed import canonical
from .whole import Whole

IMPORTED: Final = "imported"
"""The state that says from which file a checkpoint was made: it tells of the checkpoint, and is not the run's."""


def digest(backend: Backend, manifest: Manifest, *, only: str = "") -> str:
    """xxh3_128 (32 hex digits) over names, dtypes, shapes and bytes of all global tensors, and the global JSON state.

    What belongs to single ranks is left out: it cannot be equal at another world size. `only`: one part of the state
    alone, `model` or `optimizer`. Memory: a few blocks, or one tensor where it is not cut into rows.

    Raises:
        Damaged: a byte is not what was written, or the pieces do not make up the whole.
    """
    whole = Whole(backend, manifest)
    state = {key: value for key, value in whole.state.items() if key != IMPORTED and only in {"", key}}
    hasher = xxhash.xxh3_128()
    hasher.update(canonical(state).encode())
    for name in sorted(whole.tensors):
        if only and not name.startswith(f"{only}/"):
            continue
        content = xxhash.xxh3_128()
        for chunk in whole.chunks(name):
            content.update(chunk)
        piece = whole.tensors[name]
        hasher.update(canonical([name, piece.dtype, piece.global_shape, content.hexdigest()]).encode())
    return hasher.hexdigest()
