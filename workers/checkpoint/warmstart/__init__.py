"""Beginning a run with weights that are there already: another run's, a file's, torchvision's."""

from __future__ import annotations
