"""What runs in each rank: the training loop, state capture and restore, signals, heartbeats."""

from __future__ import annotations
