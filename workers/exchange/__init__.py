"""Taking state out of a run into files that others read, and out of such files into a run."""

from __future__ import annotations
