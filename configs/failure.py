"""The failure report: how a dying rank tells its launcher why, so that the cause is printed once and not by all ranks.

The path is torch elastic's `TORCHELASTIC_ERROR_FILE`, and what its `@record` decorator writes there is read as well.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

ENV_ERROR_FILE: Final = "TORCHELASTIC_ERROR_FILE"


@dataclass(frozen=True, slots=True)
class FailureReport:
    """One rank's own account of its end. `at_ns` is the host's monotonic clock: the first failure is the cause."""

    kind: str
    """Name of the exception's class, `ValueError` for example."""
    message: str
    traceback: str
    """As Python prints it; empty for an error that is an answer to the user and not a bug."""
    step: int
    at_ns: int

    @classmethod
    def of(cls, error: BaseException, *, step: int = -1, with_traceback: bool = True) -> FailureReport:
        text = "".join(traceback.format_exception(error)) if with_traceback else ""
        return cls(type(error).__name__, str(error), text, step, time.monotonic_ns())

    def write(self) -> bool:
        """Leave the report where the launcher looks; False when there is no launcher or the disk refuses."""
        path = os.environ.get(ENV_ERROR_FILE)
        if not path:
            return False
        try:
            Path(path).write_text(json.dumps(asdict(self)), encoding="utf-8")
        except OSError:
            return False
        return True


def read_failure(path: Path) -> FailureReport | None:
    """The report at `path`, ours or torch elastic's; None when the rank left none or died while writing it."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        if "at_ns" in document:
            return FailureReport(**document)
        return _from_torch(document["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _from_torch(message: Any) -> FailureReport:
    """`{"message": {"message": "ValueError: text", "extraInfo": {"py_callstack", "timestamp"}}}`."""
    if isinstance(message, str):
        message = {"message": message, "extraInfo": {}}
    kind, _, text = str(message["message"]).partition(": ")
    callstack = str(message["extraInfo"].get("py_callstack", ""))
    return FailureReport(kind, text, callstack, step=-1, at_ns=0)
