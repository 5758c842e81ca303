"""Every message a user can meet when a configuration is wrong, word for word."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.configs import errors
from relight.configs.errors import ConfigError
from relight.configs.explain import sections
from relight.configs.load import load

if TYPE_CHECKING:
    from pathlib import Path

_MINIMAL = "name: run\ntask: my_job:Task\nstorage: {url: s3://bucket/run}\n"
_TOP = (
    "checkpoint, data, hang, init_from, launch, log, metrics, name, parallel, preemption, restart, storage, task, "
    "task_args, train"
)
_TRAIN = "batch_size, deterministic, epochs, lr, max_per_rank, precision, seed, steps"
_EVERY = 'expected steps (50) or a time ("30s", "5m", "1.5h"), greater than 0'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _refusal(source: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(source, overrides)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: run\nstorage: {url: x}",
            (
                "task is missing (my.yaml). A task is a class that supplies model, data, optimizer and loss. "
                "Name it as module:Class, for example `task: relight.workers.tasks.digits:Digits`."
            ),
        ),
        (
            "task: a:B\nstorage: {url: x}",
            (
                "name is missing (my.yaml). Give the run a name, for example `name: digits`: "
                "with task and train.seed it identifies the run in its storage."
            ),
        ),
        (
            "task: a:B\nname: run",
            "storage is missing (my.yaml). Say where the run lives, for example `storage: {url: runs/digits}`.",
        ),
        (
            "task: a:B\nname: run\nstorage:",
            (
                "storage.url is missing (my.yaml, line 3). "
                "Say where the run lives: a directory or a URL, for example `url: runs/digits`."
            ),
        ),
        (
            f"{_MINIMAL}train:\n  epoch: 3\n",
            f"unknown key train.epoch (my.yaml, line 5). Did you mean train.epochs? Valid in train: {_TRAIN}.",
        ),
        (
            f"{_MINIMAL}lr: 3\n",
            f"unknown key lr (my.yaml, line 4). Did you mean train.lr? Valid in the top level: {_TOP}.",
        ),
        (
            f"{_MINIMAL}every: 3\n",
            (
                "unknown key every (my.yaml, line 4). "
                f"Did you mean checkpoint.every or log.every? Valid in the top level: {_TOP}."
            ),
        ),
        (
            f"{_MINIMAL}data:\n\n  prefetch: 3\n",
            "unknown key data.prefetch (my.yaml, line 6). Valid in data: drop_last, num_workers.",
        ),
        (f"{_MINIMAL}train:\n  lr: fast\n", "train.lr (my.yaml, line 5): expected a number; got 'fast'."),
        (
            f"{_MINIMAL}train:\n  lr: 1\n  seed: 1\n  lr: 2\n",
            "train.lr is given twice: my.yaml, line 5 and my.yaml, line 7. Keep one.",
        ),
        (
            f"{_MINIMAL}train: [1, 2\n",
            "my.yaml, line 5, column 1: not valid YAML: expected ',' or ']', but got '<stream end>'.",
        ),
        (
            f"{_MINIMAL}train:\n\tlr: 1\n",
            "my.yaml, line 5, column 1: not valid YAML: found character '\\t' that cannot start any token.",
        ),
        (
            f"{_MINIMAL}train: &t {{lr: 1}}\ndata: *t\n",
            "my.yaml, line 5, column 7: not valid YAML: aliases are not supported.",
        ),
        (
            f"{_MINIMAL}task_args: {{a: !!python/name:os.system x}}\n",
            "my.yaml, line 4, column 16: not valid YAML: the tag !!python/name:os.system is not supported.",
        ),
        (
            f"{_MINIMAL}task_args: {{[1]: 2}}\n",
            "my.yaml, line 4, column 13: not valid YAML: a key must be text.",
        ),
        ("name: a\0b", "my.yaml: not valid YAML: character #x0000 is not allowed."),
        ("[" * 5000, "my.yaml, line 1, column 65: not valid YAML: nested too deeply."),
        ("- name: run", "my.yaml: expected `key: value` lines; got [{'name': 'run'}]."),
        ("just text", "my.yaml: expected `key: value` lines; got 'just text'."),
    ],
)
def test_a_file_is_refused_with_the_line_and_the_way_out(elsewhere: Path, text: str, message: str) -> None:
    (elsewhere / "my.yaml").write_text(text)
    assert _refusal("my.yaml") == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", f"unknown key train.epoch (HERE). Did you mean train.epochs? Valid in train: {_TRAIN}."),
        ("a..b=1", f"unknown key a (HERE). Valid in the top level: {_TOP}."),
        ("train.lr=fast", "train.lr (HERE): expected a number; got 'fast'."),
        ("train.lr=true", "train.lr (HERE): expected a number; got true."),
        ("train.lr=.nan", "train.lr (HERE): expected a finite number; got nan."),
        ("train.lr=0", "train.lr (HERE): expected more than 0; got 0."),
        ("train.lr.x=1", "train.lr (HERE): expected a number; got {'x': 1}."),
        ("train={lr: fast}", "train.lr (HERE): expected a number; got 'fast'."),
        ("train=5", "train (HERE): expected a section of `key: value`; got 5."),
        ("task_args=[1]", "task_args (HERE): expected a section of `key: value`; got [1]."),
        ("train.epochs=0", "train.epochs (HERE): expected 1 or more; got 0."),
        ("train.epochs=1.5", "train.epochs (HERE): expected a whole number; got 1.5."),
        ("train.epochs='3'", "train.epochs (HERE): expected a whole number; got '3'."),
        ("train.epochs=", "train.epochs (HERE): expected a whole number; got nothing."),
        ("train.seed=4294967296", "train.seed (HERE): expected less than 4294967296; got 4294967296."),
        ("train.deterministic=1", "train.deterministic (HERE): expected true or false; got 1."),
        ("data.num_workers=-1", "data.num_workers (HERE): expected 0 or more; got -1."),
        ("checkpoint.every=often", f"checkpoint.every (HERE): {_EVERY}, or auto; got 'often'."),
        ("checkpoint.every=0", f"checkpoint.every (HERE): {_EVERY}, or auto; got 0."),
        ("checkpoint.keep_every=auto", f"checkpoint.keep_every (HERE): {_EVERY}; got 'auto'."),
        (
            "checkpoint.memory_every=0",
            "checkpoint.memory_every (HERE): expected auto, never, or a number of steps of at least 1; got 0.",
        ),
        ("hang.timeout=0", "hang.timeout (HERE): expected auto, never, or seconds greater than 0; got 0."),
        ("hang.timeout=soon", "hang.timeout (HERE): expected auto, never, or seconds greater than 0; got 'soon'."),
        ("hang.timeout=true", "hang.timeout (HERE): expected auto, never, or seconds greater than 0; got true."),
        ("hang.floor_s=0", "hang.floor_s (HERE): expected more than 0; got 0."),
        ("checkpoint.keep_every=0", f"checkpoint.keep_every (HERE): {_EVERY}; got 0."),
        ("checkpoint.keep_best=best", "checkpoint.keep_best (HERE): expected a section of `key: value`; got 'best'."),
        (
            "checkpoint.keep_best={mode: max}",
            (
                "checkpoint.keep_best.metric is missing (HERE). Name the metric to compare by, "
                "for example `keep_best: {metric: accuracy, mode: max, count: 1}`."
            ),
        ),
        (
            "checkpoint.keep_best={metric: a, mod: max}",
            (
                "unknown key checkpoint.keep_best.mod (HERE). Did you mean checkpoint.keep_best.mode? "
                "Valid in checkpoint.keep_best: count, metric, mode."
            ),
        ),
        (
            "checkpoint.keep_best={metric: a, mode: best}",
            "checkpoint.keep_best.mode (HERE): expected 'min' or 'max'; got 'best'.",
        ),
        (
            "checkpoint.keep_best={metric: a, count: 0}",
            "checkpoint.keep_best.count (HERE): expected 1 or more; got 0.",
        ),
        ("checkpoint.keep_best={metric: ''}", "checkpoint.keep_best.metric (HERE): expected text; got ''."),
        ("checkpoint.pin=7", "checkpoint.pin (HERE): expected a list, for example [1000, 2000]; got 7."),
        ("checkpoint.pin=[-1]", "checkpoint.pin.0 (HERE): expected 0 or more; got -1."),
        ("checkpoint.save_deadline_s=0", "checkpoint.save_deadline_s (HERE): expected more than 0; got 0."),
        (
            "name=my run",
            (
                "name (HERE): expected up to 100 letters, digits, '.', '_' and '-', "
                "starting with a letter or digit; got 'my run'."
            ),
        ),
        ("name=5", "name (HERE): expected text; got 5."),
        (
            "task=train.py",
            "task (HERE): expected module:Class, for example relight.workers.tasks.digits:Digits; got 'train.py'.",
        ),
        (
            "launch.nproc_per_node=0",
            "launch.nproc_per_node (HERE): expected auto or a whole number of at least 1; got 0.",
        ),
        (
            "log.trace=trace.jsonl",
            (
                "log.trace (HERE): expected a path with {rank} in it, or all ranks would write one file; "
                "got 'trace.jsonl'."
            ),
        ),
        ("storage.url=' '", "storage.url (HERE): expected a directory or a URL; got ' '."),
        ("train.lr={", "HERE: not valid YAML: expected the node content, but found '<stream end>'."),
        ("train.epochs=!!int x", "HERE: not valid YAML: 'x' is not a value."),
        ("task_args={a: 1, a: 2}", "task_args.a is given twice: HERE and HERE. Keep one."),
        ("train.lr", "HERE: expected KEY=VALUE, for example train.lr=0.1."),
        ("=1", "HERE: expected KEY=VALUE, for example train.lr=0.1."),
    ],
)
def test_an_override_is_refused_and_quoted(override: str, message: str) -> None:
    assert _refusal("digits", override) == message.replace("HERE", f"override {override!r}")


def test_the_longest_wait_is_not_shorter_than_the_first() -> None:
    assert (
        _refusal("digits", "restart.backoff_s=100", "restart.backoff_max_s=90")
        == "restart.backoff_max_s (override 'restart.backoff_max_s=90'): expected backoff_s (100) or more; got 90."
    )


def test_all_problems_are_told_at_once() -> None:
    assert _refusal("digits", "train.lr=fast", "name=") == (
        "name (override 'name='): expected text; got nothing.\n"
        "train.lr (override 'train.lr=fast'): expected a number; got 'fast'."
    )


@pytest.mark.parametrize(
    "url",
    ["s3://AKIA:secret@bucket/x", "s3://AKIA:sec/re:t@bucket/x", "http://u:se@cret@host:9000/b", "s3://:secret@b"],
)
def test_a_password_is_refused_and_never_repeated(url: str) -> None:
    message = _refusal("digits", f"storage.url={url}")
    assert message.endswith(f"@{url.rpartition('@')[2]}'.")
    assert "expected a URL without a password, which would end up in logs and in the run's own files; " in message
    assert "leave credentials to the environment" in message
    assert not any(part in message for part in ("secret", "sec/re", "re:t", "se@", "cret"))


def test_a_key_may_not_be_endlessly_deep() -> None:
    assert "expected KEY=VALUE" in _refusal("digits", f"task_args{'.a' * 64}=1")
    assert load("digits", [f"task_args{'.a' * 63}=1"])


def test_every_option_that_must_be_given_says_why() -> None:
    required = [
        ".".join((*path, name))
        for path, section in sections().items()
        for name, option in section.model_fields.items()
        if option.is_required()
    ]
    rule = ["restart.rules.match", "restart.rules.then"]
    assert required == ["name", "task", "storage", "checkpoint.keep_best.metric", "storage.url", *rule]
    for key in required:
        assert errors.missing(key, "here").startswith(f"{key} is missing (here). ")


def test_a_long_value_is_cut() -> None:
    message = _refusal("digits", f"name={'x' * 1000}")
    assert len(message) < 400


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "digit",
            "no configuration digit: there is no such file. Presets: digits, gpt, reference. Did you mean digits?",
        ),
        (
            "x/digits",
            "no configuration x/digits: there is no such file. Presets: digits, gpt, reference. Did you mean digits?",
        ),
        ("other.yaml", "no configuration other.yaml: there is no such file. Presets: digits, gpt, reference."),
        ("train.py", "train.py is a script, not a configuration. To run it: relight run -- train.py"),
        ("folder", "folder cannot be read: it is a directory."),
        ("latin1.yaml", "latin1.yaml cannot be read: it is not UTF-8 text."),
        ("x" * 300, f"{'x' * 300} cannot be read: File name too long."),
    ],
)
def test_a_source_that_cannot_be_read_is_named_with_the_way_out(elsewhere: Path, source: str, message: str) -> None:
    (elsewhere / "folder").mkdir()
    (elsewhere / "latin1.yaml").write_bytes("name: été".encode("latin-1"))
    assert _refusal(source) == message


_KEYS = st.sampled_from(["train.lr", "train", "task_args.x", "checkpoint.every", "storage.url", "name", "launch", ""])
_YAML_LIKE = st.text(st.sampled_from(list("{}[],:&*!|>'\"%@`#-?<=\t\n 0123456789.eE+_xyz~")), max_size=30)
_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)


@given(st.builds("{}={}".format, _KEYS | _ANY_TEXT, _YAML_LIKE | _ANY_TEXT) | _ANY_TEXT)
def test_whatever_is_typed_either_loads_or_is_refused(override: str) -> None:
    # Any other exception than ConfigError is what this looks for.
    with contextlib.suppress(ConfigError):
        load("digits", [override])
