"""Packages that a logger needs and Relight does not."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import BadLogger


def require(module: str, package: str, what: str) -> None:
    """Raises BadLogger, with the way out, where `module` is not installed."""
    if find_spec(module) is None:
        raise BadLogger(f"{what} needs a package that is not installed: pip install {package}")
