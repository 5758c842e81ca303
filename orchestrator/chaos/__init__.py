"""Faults on purpose, against one's own running job: what `relight chaos` does."""
