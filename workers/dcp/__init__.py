"""The drop-in for torch.distributed.checkpoint: its planners decide what is saved, Relight how it lies in storage."""

from __future__ import annotations
