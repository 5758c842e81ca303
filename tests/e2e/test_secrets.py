"""Credentials in the environment stay there: planted as canaries, they are looked for in all that a run leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from relight.tests.e2e.running import Run, started
from relight.tests.waiting import wait_until

CANARIES: Final = {
    "AWS_ACCESS_KEY_ID": "AKIACANARY1ACCESS",
    "AWS_SECRET_ACCESS_KEY": "canary2/secret+key",
    "AWS_SESSION_TOKEN": "canary3-session-token",
}
PASSWORD: Final = "canary4-password"


@pytest.fixture(autouse=True)
def _canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)


def found_in(text: bytes) -> list[str]:
    return [canary for canary in (*CANARIES.values(), PASSWORD) if canary.encode() in text]


def leaks(folder: Path) -> dict[str, list[str]]:
    """Storage, journal, traces, output, whatever the run has written."""
    contents = ((str(path), path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file())
    return {path: found for path, content in contents if (found := found_in(content))}


def command_lines() -> tuple[dict[int, bytes], set[int]]:
    """Those of all processes of this machine; and which of them have the canaries in their environment."""
    lines, ours = {}, set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines[int(process.name)] = (process / "cmdline").read_bytes()
            if found_in((process / "environ").read_bytes()):
                ours.add(int(process.name))
        except OSError:  # It has ended meanwhile, or is another user's.
            continue
    return lines, ours


def watched(run: Run, *overrides: str) -> tuple[int, int]:
    """The exit code, and how many processes of the run were seen; all command lines are searched while it runs."""
    seen: set[int] = set()
    with started(run, *overrides) as process:

        def over() -> bool:
            lines, ours = command_lines()
            assert {pid: line for pid, line in lines.items() if found_in(line)} == {}
            seen.update(ours)
            return process.poll() is not None

        wait_until(over, deadline_s=200, what="the end of the run")
        return process.returncode, len(seen)


def test_a_run_that_succeeds_and_one_that_fails_tell_no_secret(folder: Path) -> None:
    fine = Run(folder / "fine")
    code, processes = watched(fine, "train.epochs=2")
    assert (code, processes >= 3) == (0, True), fine.text
    broken = Run(folder / "broken")
    assert watched(broken, "task_args.fail_at=13")[0] == 70, broken.text
    assert "Traceback" in broken.text
    assert leaks(folder) == {}


def test_a_canary_would_be_found(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "journal").write_text(f"x{CANARIES['AWS_SESSION_TOKEN']}y")
    assert leaks(folder) == {str(folder / "a" / "journal"): ["canary3-session-token"]}


@pytest.mark.parametrize("scheme", ["s3", "http", "file", "unheard-of"])
def test_a_password_in_a_url_is_refused_and_not_repeated(folder: Path, scheme: str) -> None:
    run = Run(folder)
    # The user's own command line holds what was typed; no process is started that could repeat it.
    assert run.finish(f"storage.url={scheme}://somebody:{PASSWORD}@host/bucket", timeout_s=60) == 78
    assert "expected a URL without a password" in run.text
    assert leaks(folder) == {}
