"""A checkpoint's way from a rank's live state to storage and back."""

from __future__ import annotations
