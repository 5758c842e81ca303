"""What runs once per host: launch, watch, decide, restart, report."""

from __future__ import annotations
