"""What lives of a run, whoever its parents are."""

from __future__ import annotations

from pathlib import Path

from relight.tests.e2e.running import Run


def leftovers(run: Run) -> dict[int, str]:
    """Command lines, by process number, of all processes that have to do with the run's folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
            if command and str(run.folder).encode() in command + (entry / "environ").read_bytes():
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # It is gone.
            continue
    return found


def is_persister(command: str) -> bool:
    return "persister_main" in command
