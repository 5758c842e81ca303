"""Hostile runs and configurations, in one place and counted: refused in words, nothing run, nothing read outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relight.configs.errors import ConfigError
from relight.configs.load import load
from relight.storage import sweep
from relight.storage.backends.base import check_key, check_prefix
from relight.storage.backends.local import LocalBackend
from relight.storage.errors import StorageError
from relight.storage.generations import claim
from relight.storage.layout import AttemptId, parse_generation
from relight.tests.storage.checkpoints import attempt_id, save

KEYS = ["", ".", "..", "/", "/etc/passwd", "../x", "a/..", "a/../b", "a//b", "a/", "./a", "a/./b", "a\0b", "\0", "a/\0"]
PREFIXES = ["/", "..", "../", "a", "a/../", "a//", "./", "a\0/", "/etc/"]
NAMES = [
    "..",
    "step-000000000001-g00000001-a0001-00abcd/../x",
    "../step-000000000001-g00000001-a0001-00abcd",
    "/step-000000000001-g00000001-a0001-00abcd",
    "step-000000000001-g00000001-a0001-00abcd\0",
    "step-000000000001-g00000001-a0001-00abcd\n",
    "step--00000000001-g00000001-a0001-00abcd",
    "step-" + "9" * 5000 + "-g00000001-a0001-00abcd",
    "step-000000000001-g00000001-a9999999999-00abcd",
    "step-\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661-g00000001-a0001-00abcd",
]
_HEAD = "name: run\ntask: a:B\nstorage: {url: x}\ntask_args: "
_BOMB = "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'lol'}]\n" for n in range(9))
YAML = [
    *(
        f"{_HEAD}{{a: {value}}}"
        for value in (
            "!!python/object/apply:os.system ['touch PWNED']",
            "!!python/object/new:os.system ['touch PWNED']",
            "!!python/name:os.system ''",
            "!!python/module:os ''",
            "!!python/object:os.x {}",
            "!!python/tuple [1]",
            "!!binary aGVsbG8=",
            "!!set {a, b}",
            "!!omap [a: 1]",
            "!!timestamp 2001-01-01",
            "!!merge x",
            "!local 1",
            "!<tag:evil,2026:x> 1",
            "!!int x",
            "!!float x",
            "!!bool x",
            "9" * 5000,
            "*nothing",
            "[" * 100 + "]" * 100,
            "[" * 50_000,
            "{a: " * 100 + "1" + "}" * 100,
        )
    ),
    f"{_HEAD}\n{_BOMB}",
    f"{_HEAD}&a [*a]",
    f"{_HEAD}\n  base: &b {{x: 1}}\n  <<: *b",
    f"{_HEAD}{{a: 1, a: 2}}",
    f"{_HEAD}{{? [1]: 2}}",
    f"{_HEAD}{{}}\n---\nname: other",
    f"%YAML 9.9\n---\n{_HEAD}{{}}",
    "\0",
    "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
    "name: " + "x" * 1_000_000 + "\ntask: a:B\nstorage: {url: x}",
    f"{_HEAD}{{}}\nstorage: {{url: x}}",
    "storage: {url: 's3://key:secret@bucket/x'}\nname: run\ntask: a:B",
]
LISTED = len(KEYS) + len(PREFIXES) + 2 * len(NAMES) + len(YAML)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a reader of every hostile run said, did and used."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-m", "relight.tests.storage.hostile_reader", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(folder.rglob("PWNED"))
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_hostile_run_is_refused_in_words(answers: list[dict[str, Any]]) -> None:
    assert {each["name"]: each["crash"] for each in answers if each["crash"]} == {}
    assert [each["name"] for each in answers if not any(each["complaints"])] == []


def test_nothing_is_run_and_nothing_outside_is_read(answers: list[dict[str, Any]]) -> None:
    assert {each["name"]: each["touched"] for each in answers if each["touched"]} == {}


def test_memory_stays_in_proportion_to_what_is_there(
    answers: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice the bytes of the files and a little. JSON of 16 KiB and more takes what Python's objects take.

    Of that there is a limit: see `test_json_memory.py`.
    """
    small = [each for each in answers if not 16 << 10 < each["declared"] < 64 << 20]
    large = [each for each in answers if each not in small]
    assert [each for each in small if each["memory"] > 2 * each["declared"] + (128 << 10)] == []
    assert [each for each in large if each["memory"] > 16 * each["declared"]] == []
    with capsys.disabled():
        most = max(each["memory"] - 2 * each["declared"] for each in small)
        factor = max(each["memory"] / each["declared"] for each in large)
        print(
            f"\nhostile inputs: {len(answers)} runs and {LISTED} keys, names and configurations, "
            f"{len(answers) + LISTED} in all: 0 executed, 0 read outside; memory at most 2 x declared + {max(most, 0)} "
            f"bytes, and {factor:.1f} x where it is large JSON"
        )
    assert len(answers) + LISTED >= 200


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_a_key_that_could_leave_the_run_is_refused(key: str) -> None:
    with pytest.raises(StorageError) as refused:
        check_key(key)
    assert str(refused.value) == f"{key!r} is not a storage key: it must be a relative path of plain names"


@pytest.mark.parametrize("prefix", PREFIXES, ids=repr)
def test_a_folder_that_could_leave_the_run_is_refused(prefix: str) -> None:
    with pytest.raises(StorageError) as refused:
        check_prefix(prefix)
    assert str(refused.value).startswith(f"{prefix!r} is not a folder in storage: ")


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:60])
def test_a_hostile_name_is_nobody_s(name: str) -> None:
    assert AttemptId.parse(name) is None
    assert parse_generation(f"generations/{name}.json") is None


@pytest.mark.parametrize("text", YAML, ids=lambda text: repr(text)[-60:])
def test_a_hostile_configuration_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load("my.yaml")
    assert 0 < len(str(refused.value)) < 1000
    assert "secret" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


def test_nothing_is_deleted_through_a_link(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "run")
    save(backend, attempt_id(10))
    receipts = tmp_path / "run" / attempt_id(10).receipts
    receipts.rename(tmp_path / "mine")
    receipts.symlink_to(tmp_path / "mine")
    sweep.delete_attempt(backend, attempt_id(10))
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["rank-00000.json", "rank-00001.json"]


def test_a_folder_in_a_generation_s_place_is_passed_over_and_not_waited_for(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    (tmp_path / "generations" / "00000001.json").mkdir(parents=True)
    assert claim(backend, incarnation="one", resumed_from=None, host="here").number == 2
