"""Tasks that ship with Relight: what to train, ready to run."""

from __future__ import annotations
