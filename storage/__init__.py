"""Named bytes that survive. Knows no torch, no training and no other room."""

from __future__ import annotations
