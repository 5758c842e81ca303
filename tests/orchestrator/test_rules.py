"""The user's own word on a failure."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing import Std

from relight.configs.errors import ConfigError
from relight.configs.load import load
from relight.orchestrator.commandline import split
from relight.orchestrator.evidence import Witness
from relight.orchestrator.judging.failures import Failure, FailureClass
from relight.orchestrator.judging.rules import Rule, Then, first_match
from relight.orchestrator.launcher import resolve
from relight.orchestrator.streams import Streams

KILLED = Failure(FailureClass.KILLED, 1, "killed by SIGABRT", message="first\nsecond", details="Traceback\n  in f")
ECC = "NVRM: Xid 48: an uncorrectable ECC error"


def rule(pattern: str, then: Then = Then.STOP) -> Rule:
    return Rule(re.compile(pattern), then)


@pytest.mark.parametrize("pattern", ["SIGABRT$", "^second$", "in f", "Xid (48|63)"])
def test_what_the_rank_has_left_is_looked_at_line_by_line(pattern: str) -> None:
    assert first_match([rule("absent"), rule(pattern)], KILLED, ["other", f"x\n{ECC}\ny"]) == rule(pattern)


def test_the_first_rule_that_matches_wins() -> None:
    rules = [rule("absent"), rule("SIG", Then.RETRY), rule("SIGABRT", Then.EXCLUDE)]
    assert first_match(rules, KILLED) == rules[1]
    assert first_match(rules[:1], KILLED) is None


def test_no_rule_makes_a_failure_of_a_preemption() -> None:
    assert first_match([rule("")], Failure(FailureClass.PREEMPTED, 0, "told to stop")) is None


def witness(tmp_path: Path, *rules: Rule) -> tuple[Witness, list[str]]:
    said: list[str] = []
    return Witness(Streams(tmp_path, Std.ALL), rules, said.append), said


def test_the_ends_of_the_ranks_log_files_are_read(tmp_path: Path) -> None:
    looking, _ = witness(tmp_path, rule("Xid"))
    stdout, stderr = looking.logs(1, 3)
    assert looking.rule_for(KILLED, 3) is None
    Path(stderr).write_bytes(b"Xid 13" + b"x" * 100_000 + b"\n")
    Path(stdout).write_bytes(b"\xff\xfe" * 1000)
    assert looking.rule_for(KILLED, 3) is None, "only the end is looked at"
    with Path(stderr).open("a") as file:
        file.write(ECC)
    assert looking.rule_for(KILLED, 3) == rule("Xid")


def test_a_pattern_that_would_take_for_ever_is_given_up(tmp_path: Path) -> None:
    looking, said = witness(tmp_path, rule("(a+)+$"))
    began_s = time.monotonic()
    assert looking.rule_for(Failure(FailureClass.USER_BUG, 0, "a" * 60 + "!"), 1) is None
    print(f"given up after {time.monotonic() - began_s:.1f} s")
    assert said == ["restart.rules took more than 2 s to match and are left out this time"]


CONFIG = "name: run\ntask: my_job:Task\nstorage: {url: /x}\nrestart:\n  rules:\n"


def config(tmp_path: Path, rules: str) -> str:
    (tmp_path / "my.yaml").write_text(CONFIG + rules)
    return str(tmp_path / "my.yaml")


def test_rules_come_from_the_config(tmp_path: Path) -> None:
    source = config(tmp_path, "  - {match: 'Xid \\d+', then: exclude}\n  - match: boom\n    then: retry\n")
    spec = resolve(split([source], {}), load(source), {})
    assert spec.settings.rules == (rule(r"Xid \d+", Then.EXCLUDE), rule("boom", Then.RETRY))
    assert load(source, ["restart.rules=[{match: x, then: stop}]"]).restart.rules[0].then == "stop"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            "  - {match: a, then: stop}\n  - {match: '[', then: stop}\n",
            (
                "restart.rules.1.match (my.yaml, line 7): expected a regular expression, and it is none: "
                "unterminated character set at position 0; got '['."
            ),
        ),
        (
            "  - match: a\n    then: restart\n",
            "restart.rules.0.then (my.yaml, line 7): expected 'stop', 'retry' or 'exclude'; got 'restart'.",
        ),
        (
            "  - match: a\n",
            "restart.rules.0.then is missing (my.yaml, line 5). Say what to do: stop, retry or exclude.",
        ),
        (
            "  - {match: a, then: stop, than: stop}\n",
            (
                "unknown key restart.rules.0.than (my.yaml, line 6). Did you mean restart.rules.0.then? "
                "Valid in restart.rules.0: match, then."
            ),
        ),
        (
            "    Xid: stop\n",
            "restart.rules (my.yaml, line 5): expected a list, for example [1000, 2000]; got {'Xid': 'stop'}.",
        ),
    ],
)
def test_a_rule_that_is_none_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: str, message: str
) -> None:
    config(tmp_path, rules)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        load("my.yaml")
    assert str(refused.value) == message
    assert os.linesep not in message
