"""The failure report: how a dying rank tells its launcher why, so that the cause is printed once and not by all ranks.

The path is torch elastic's `TORCHELASTIC_ERROR_FILE`, and what its `@record` decorator writes there is read as well.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from .protocol import ExitCode

ENV_ERROR_FILE: Final = "TORCHELASTIC_ERROR_FILE"
_MESSAGE_CHARACTERS: Final = 1 << 15
_TRACEBACK_CHARACTERS: Final = 1 << 17
_MOST_CAUSES: Final = 16


@dataclass(frozen=True, slots=True)
class Cause:
    """An error that another one came from. `handled`: the other was raised while this one was handled, not from it."""

    kind: str
    message: str
    module: str = ""
    bases: tuple[str, ...] = ()
    handled: bool = False


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
    module: str = ""
    """Where the class was defined: two packages may use one name."""
    bases: tuple[str, ...] = ()
    """Names of the classes that it inherits from, down to and without `Exception`."""
    causes: tuple[Cause, ...] = ()
    """What it came from, the nearest first."""
    exit_code: int = ExitCode.FAILED
    """What the rank is about to end with."""

    @classmethod
    def of(cls, error: BaseException, *, step: int = -1, with_traceback: bool = True) -> Self:
        """Whatever the error is like: its own methods may raise, its text may be huge, or no text at all.

        An error that carries an `ExitCode` of its own (`exit_code`) is an answer to the user and has no traceback.
        """
        code = _answer(error)
        return cls(
            kind=type(error).__name__,
            message=_message(error),
            traceback="" if code is not None or not with_traceback else _traceback(error),
            step=step,
            at_ns=time.monotonic_ns(),
            module=type(error).__module__,
            bases=_bases(error),
            causes=tuple(_causes(error)),
            exit_code=int(ExitCode.FAILED if code is None else code),
        )

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
            return _from_ours(document)
        return _from_torch(document["message"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _from_ours(document: dict[str, Any]) -> FailureReport:
    causes = tuple(Cause(**each | {"bases": tuple(each["bases"])}) for each in document.get("causes", ()))
    return FailureReport(**document | {"bases": tuple(document.get("bases", ())), "causes": causes})


def _from_torch(message: Any) -> FailureReport:
    """`{"message": {"message": "ValueError: text", "extraInfo": {"py_callstack", "timestamp"}}}`."""
    if isinstance(message, str):
        message = {"message": message, "extraInfo": {}}
    kind, _, text = str(message["message"]).partition(": ")
    callstack = str(message["extraInfo"].get("py_callstack", ""))
    return FailureReport(kind, text, callstack, step=-1, at_ns=0)


def _causes(error: BaseException) -> Iterator[Cause]:
    """What Python would print above it, the nearest first; a group's members are what the group comes from."""
    seen = {id(error)}
    pending = _origins(error)
    while pending and len(seen) <= _MOST_CAUSES:
        cause, handled = pending.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield Cause(type(cause).__name__, _message(cause), type(cause).__module__, _bases(cause), handled)
        pending += _origins(cause)


def _origins(error: BaseException) -> list[tuple[BaseException, bool]]:
    members = [(each, False) for each in error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    if error.__cause__ is not None:
        return [*members, (error.__cause__, False)]
    if error.__context__ is not None and not error.__suppress_context__:
        return [*members, (error.__context__, True)]
    return members


def _answer(error: BaseException) -> ExitCode | None:
    try:
        code = getattr(error, "exit_code", None)
    except Exception:  # noqa: BLE001  # A property of the user's own class.
        return None
    return code if isinstance(code, ExitCode) else None


def _bases(error: BaseException) -> tuple[str, ...]:
    plain = {type(error), Exception, BaseException, object}
    return tuple(base.__name__ for base in type(error).__mro__ if base not in plain)


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001  # It runs the user's own `__str__`.
        text = f"(its text cannot be had: {type(second).__name__} in __str__)"
    return _shortened(text, _MESSAGE_CHARACTERS)


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as second:  # noqa: BLE001  # It reads sources and runs the user's own `__str__`.
        text = f"(the traceback cannot be had: {type(second).__name__})"
    return _shortened(text, _TRACEBACK_CHARACTERS)


def _shortened(text: str, most: int) -> str:
    """As Unicode that can be printed and stored anywhere, and without its middle if there is too much of it."""
    if len(text) > most:
        text = (
            f"{text[: most // 4]}\n... {len(text) - most} characters left out ...\n{text[len(text) - most * 3 // 4 :]}"
        )
    return text.encode("utf-8", "backslashreplace").decode()
