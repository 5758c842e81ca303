"""One zygote for the whole suite, and a launcher for each case: as the orchestrator's own tests have them."""

from __future__ import annotations

from relight.tests.orchestrator.conftest import group, launched

__all__ = ["group", "launched"]
