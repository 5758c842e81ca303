"""What is a flag, what is the target, what belongs to the target."""

from __future__ import annotations

import argparse

import pytest
from torch.distributed import run as torchrun

from relight.orchestrator.commandline import REFUSED, SWITCHES, USAGE, WITH_VALUE, HelpWanted, Target, split
from relight.orchestrator.errors import UsageError

ORDER = "flags go before the target, the target's own arguments after it"
REFUSAL = "is not supported by relight run:"


def test_the_tables_are_torchruns() -> None:
    options = [action for action in torchrun.get_args_parser()._actions if action.option_strings]
    switches = {flag for each in options if each.nargs == 0 for flag in each.option_strings}
    with_value = {flag for each in options if each.nargs != 0 for flag in each.option_strings}
    # Flags come with torch versions: ours may know more than the installed one, never less.
    assert switches <= SWITCHES
    assert with_value <= WITH_VALUE
    assert not switches & WITH_VALUE
    assert not with_value & SWITCHES


def test_what_is_refused_exists() -> None:
    names = {action.dest for action in torchrun.get_args_parser()._actions}
    known = {flag.removeprefix("--").replace("-", "_") for flag in WITH_VALUE | SWITCHES}
    assert set(REFUSED) <= names | known


@pytest.mark.parametrize(
    ("line", "flags", "kind", "target", "rest"),
    [
        ("digits", "", Target.CONFIG, "digits", ""),
        ("configs/digits.yaml train.lr=1 a.b=2", "", Target.CONFIG, "configs/digits.yaml", "train.lr=1 a.b=2"),
        ("--nproc-per-node 2 my.yaml", "--nproc-per-node 2", Target.CONFIG, "my.yaml", ""),
        ("train.py", "", Target.SCRIPT, "train.py", ""),
        ("train.py --lr 1 -- x", "", Target.SCRIPT, "train.py", "--lr 1 -- x"),
        ("-- train", "", Target.SCRIPT, "train", ""),
        ("--standalone -- train.py -m x", "--standalone", Target.SCRIPT, "train.py", "-m x"),
        ("--nproc=2 train.py", "--nproc=2", Target.SCRIPT, "train.py", ""),
        ("--nproc 2 train.py", "--nproc 2", Target.SCRIPT, "train.py", ""),
        ("--max_restarts=3 --log-dir x t.py", "--max_restarts=3 --log-dir x", Target.SCRIPT, "t.py", ""),
        ("-r 3 --log-dir x t.py", "-r 3 --log-dir x", Target.SCRIPT, "t.py", ""),
        ("-r3 --log-dir=x t.py", "-r3 --log-dir=x", Target.SCRIPT, "t.py", ""),
        ("-m my.job --x", "-m", Target.MODULE, "my.job", "--x"),
        ("--no-python bash -c true", "--no-python", Target.PROGRAM, "bash", "-c true"),
        ("--run-path /a/b", "--run-path", Target.SCRIPT, "/a/b", ""),
    ],
)
def test_a_line_is_taken_apart(line: str, flags: str, kind: Target, target: str, rest: str) -> None:
    command = split(line.split(), {})
    assert (command.flags, command.kind) == (tuple(flags.split()), kind)
    assert (command.target, command.rest) == (target, tuple(rest.split()))


@pytest.mark.parametrize(
    ("variable", "kind"),
    [("PET_MODULE", Target.MODULE), ("PET_NO_PYTHON", Target.PROGRAM), ("PET_RUN_PATH", Target.SCRIPT)],
)
def test_torchruns_variables_choose_the_kind(variable: str, kind: Target) -> None:
    assert split(["x"], {variable: "1"}).kind is kind
    assert split(["x"], {variable: "0"}).kind is Target.CONFIG


def test_flags_that_were_given_are_known_by_name() -> None:
    assert split(["--max-r=1", "--nproc_per_node", "2", "-r3", "x.py"], {}).given == {
        "max_restarts",
        "nproc_per_node",
        "redirects",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", f"nothing to run\n{USAGE}"),
        ("--nproc-per-node 2", f"nothing to run\n{USAGE}"),
        ("--nproc-per-node", f"--nproc-per-node needs a value\n{USAGE}"),
        ("--lr 1 t.py", f"--lr is not a flag of torchrun or relight run; {ORDER}"),
        (
            "--max=1 --no t.py",
            f"--no may mean --no-python, --no_python, --node-rank, --node_rank; {ORDER}",
        ),
        ("digits --role=x", "--role=x comes after digits: flags go before it. Overrides are written key=value"),
        ("--no-python -m x", "--no-python and --module exclude each other"),
        ("-t 3 x.py", f"--tee {REFUSAL} use --redirects with --log-dir, and `tail -f` on the files"),
        ("--logs-specs=mine x.py", f"--logs-specs {REFUSAL} use --redirects with --log-dir"),
    ],
)
def test_mistakes_are_explained(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        split(line.split(), {})
    assert str(caught.value) == message


def test_a_variable_that_cannot_be_honoured_is_refused_too() -> None:
    with pytest.raises(UsageError) as caught:
        split(["x.py"], {"PET_TEE": "3"})
    assert str(caught.value).startswith("PET_TEE is not supported by relight run: ")


@pytest.mark.parametrize("line", ["-h", "--help", "--nproc=1 --help x.py"])
def test_help(line: str) -> None:
    with pytest.raises(HelpWanted):
        split(line.split(), {})


def test_a_scripts_own_help_is_its_own() -> None:
    assert split(["x.py", "--help"], {}).rest == ("--help",)
    assert isinstance(torchrun.get_args_parser(), argparse.ArgumentParser)
