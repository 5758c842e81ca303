"""How a checkpoint is named on a command line: URL or URL@STEP."""

from __future__ import annotations

import re
from typing import Final

_AT_STEP: Final = re.compile(r"(?P<url>.+)@(?P<step>[0-9]+)")


def split_target(target: str) -> tuple[str, int | None]:
    """`URL@STEP` as the URL and the step; a URL alone has no step."""
    match = _AT_STEP.fullmatch(target)
    return (match["url"], int(match["step"])) if match else (target, None)
