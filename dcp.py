"""`relight.dcp`: torch.distributed.checkpoint, with Relight's checkpoints underneath. The names, nothing else."""

from __future__ import annotations

from .workers.dcp.reader import Reader
from .workers.dcp.steps import newest_step
from .workers.dcp.writer import Writer

__all__ = ["Reader", "Writer", "newest_step"]
