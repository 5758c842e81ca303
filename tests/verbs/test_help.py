"""The command line explains itself: help, completion, and what is said of a command that was mistyped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from relight.tests.verbs.door import VERBS, Door
from relight.tests.verbs.places import make_run
from relight.verbs.manners import steps_there

ALL = [*VERBS, "chaos"]


def test_the_commands_are_listed_in_the_order_in_which_they_are_met(door: Door) -> None:
    shown = door("--help")
    listed = re.findall(r"^  ([a-z]+) +[A-Z]", shown.out.partition("Commands:")[2], flags=re.MULTILINE)
    assert listed == [
        "run",
        "status",
        "report",
        "ls",
        "show",
        "verify",
        "diff",
        "export",
        "import",
        "cp",
        "gc",
        "chaos",
    ]
    assert (shown.code, shown.err) == (0, "")


@pytest.mark.parametrize("verb", ALL)
def test_every_command_explains_itself_with_an_example(door: Door, verb: str) -> None:
    shown = door(verb, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert f"relight {verb} " in shown.out.replace("\n", " ")
    assert verb == "run" or re.search(rf"Example:\s+relight {verb} ", shown.out), shown.out
    assert verb in {"run", "chaos"} or "--json" in shown.out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("vreify x", "No such command 'vreify'. Did you mean 'verify'?"),
        ("verify", "Missing argument 'URL[@STEP]'"),
        ("verify x --jsno", "No such option: --jsno"),
        ("gc x --keep-last 0", "greater than or equal to 1"),
        ("cp x", "Missing argument 'URL2'"),
    ],
)
def test_a_mistyped_command_is_a_usage_error_and_not_a_failure(door: Door, line: str, says: str) -> None:
    answer = door(*line.split())
    assert (answer.code, answer.out) == (2, "")
    assert says in answer.err, answer.err
    assert "Traceback" not in answer.err


def test_without_arguments_the_help_is_shown(door: Door) -> None:
    answer = door()
    assert "Usage: relight" in answer.out + answer.err


def test_the_shell_completes_the_steps_that_are_there(door: Door, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 10, 20)
    assert steps_there(f"{tmp_path}/run@") == [f"{tmp_path}/run@20", f"{tmp_path}/run@10"]
    assert steps_there(f"{tmp_path}/run") == steps_there("s3://bucket/run@") == steps_there(f"{tmp_path}/none@") == []
    env = {"_RELIGHT_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"relight show {tmp_path}/run@2"}
    completed = door(env=env).out
    assert f"{tmp_path}/run@20" in completed
    assert f"{tmp_path}/run@10" not in completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_given_a_script_that_completes(door: Door, shell: str) -> None:
    # What --show-completion prints, which looks for the shell that it was typed in: here there may be none.
    assert "_RELIGHT_COMPLETE=complete_" in door(env={"_RELIGHT_COMPLETE": f"source_{shell}"}).out


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line_and_a_reader_who_leaves_is_none(
    tmp_path: Path, unbuffered: str
) -> None:
    make_run(tmp_path / "run", 10)
    command = [sys.executable, "-m", "relight", "ls", str(tmp_path / "run")]
    env = dict(os.environ, PYTHONUNBUFFERED=unbuffered)
    with open("/dev/full", "w") as full:  # noqa: PTH123 -- a device
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (1, "relight: cannot print: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=env)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
