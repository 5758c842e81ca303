"""Before a run relies on it: that all ranks mean the same by their tensors, which planning takes for granted."""

from __future__ import annotations

import json

import torch

from ...storage.checksum import digest
from ..errors import NotCaptured
from .collective import Circle
from .state import Parts


def check_alike(parts: Parts, circle: Circle) -> None:
    """All ranks have tensors of the same names, shapes and dtypes, however each is sharded. A collective.

    Raises:
        NotCaptured: on all ranks; what differs is named.
    """
    facts = sorted(
        f"{name} {list(value.shape)} {value.dtype}"
        for name, value in parts.model_state().items()
        if isinstance(value, torch.Tensor)
    )
    mine = digest(json.dumps(facts).encode())
    if len(set(circle.exchange(mine))) == 1:
        return
    told = [set(json.loads(text)) for text in circle.exchange(json.dumps(facts))]
    other = next(rank for rank, theirs in enumerate(told) if theirs != told[0])
    differing = sorted(told[other] ^ told[0])
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    message = (
        f"the models of rank 0 and rank {other} differ in {'; '.join(differing[:3])}{more}. Every rank has to have all "
        "tensors, replicated (DDP) or as its shard (FSDP, tensor parallel): stages of a pipeline cannot be saved so far"
    )
    raise NotCaptured(message)
