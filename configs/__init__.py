"""Configuration: the schema, its loading, the presets, and the words that workers and orchestrator share."""

from __future__ import annotations
