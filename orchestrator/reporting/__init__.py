"""`relight report`: a run's course on one page. Journal lines become a `Story`, the story HTML; only the edge acts."""

from __future__ import annotations
