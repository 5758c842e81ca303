"""Files that others have written, brought into a run."""

from __future__ import annotations
