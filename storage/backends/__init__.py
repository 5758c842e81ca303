"""Where the bytes of a run live: one small protocol, one implementation per kind of storage."""

from __future__ import annotations
