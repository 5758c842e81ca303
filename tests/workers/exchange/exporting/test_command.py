"""`relight export` as a command: one clear line, the right exit code, and nothing left behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from relight.__main__ import main
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.tests.workers.exchange.exporting.saving import flip, net, save, shards
from relight.verbs import exporting

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """`relight export ARGUMENTS`: the exit code, and what was written to the two streams."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relight", "export", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capsys.readouterr()

    monkeypatch.setattr(exporting, "leave", sys.exit)  # Which would leave the tests, too.
    before = signal.getsignal(signal.SIGTERM)
    yield call
    signal.signal(signal.SIGTERM, before)


def test_what_was_written_is_said_in_a_line_or_as_json(tmp_path: Path, command: Command) -> None:
    save(tmp_path / "run", model=net())
    out = tmp_path / "out.safetensors"
    code, said, complained = command(tmp_path / "run", out, "--format", "safetensors")
    assert (code, complained) == (0, "")
    assert said == f"{out}: safetensors, step 1, 9 tensors, {out.stat().st_size} bytes\n"
    code, said, complained = command(f"{tmp_path}/run@1", out, "--format", "safetensors", "--overwrite", "--json")
    assert (code, complained) == (0, "")
    assert json.loads(said) == {
        "out": str(out),
        "format": "safetensors",
        "step": 1,
        "checkpoint": Catalog(open_backend(str(tmp_path / "run"))).find().id.name,
        "bytes": out.stat().st_size,
        "tensors": 9,
    }
    code, _, _ = command(tmp_path / "run", tmp_path / "cut", "--format", "safetensors", "--shard-bytes", "100B")
    assert code == 0
    assert (tmp_path / "cut" / "model.safetensors.index.json").is_file()


def test_a_refusal_is_one_line_and_changes_nothing(tmp_path: Path, command: Command) -> None:
    save(tmp_path / "whole", model=net())
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    flip(shards(tmp_path / "run")[0])
    (tmp_path / "there").write_text("mine")
    for arguments, said in (
        ((tmp_path / "none", tmp_path / "out"), f"there is no run at {tmp_path}/none"),
        ((tmp_path / "run", tmp_path / "there"), f"{tmp_path}/there exists already."),
        ((f"{tmp_path}/run@1", tmp_path / "out"), "the checksum of block 0"),
        ((tmp_path / "whole", tmp_path / "out", "--only", "critic"), "which has no name: leave out --only critic"),
    ):
        code, _, complained = command(*arguments, "--format", "state-dict")
        assert code == 1
        assert re.fullmatch(r"relight: [^\n]*\n", complained), complained
        assert said in complained
    assert command(tmp_path / "run", tmp_path / "out", "--format", "onnx")[0] == 2
    assert command(tmp_path / "run", tmp_path / "out", "--format", "safetensors", "--shard-bytes", "much")[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "there", "whole"]
    assert (tmp_path / "there").read_text() == "mine"


def test_a_request_to_stop_leaves_nothing(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "run", model=net())
    monkeypatch.setattr(exporting.Bar, "count", lambda *_: signal.raise_signal(signal.SIGTERM))
    code, _, complained = command(tmp_path / "run", tmp_path / "out", "--format", "checkpoint")
    assert code == 130
    assert "Traceback" not in complained
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 1000**3), ("512MiB", 512 << 20), ("1.5 KiB", 1536), ("200", 200), ("7b", 7), ("2kb", 2000)],
)
def test_sizes_are_spelled_as_people_do(text: str, size: int) -> None:
    assert exporting.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "5XB", "-1GB", "0", "0.1", "5 G B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        exporting.parse_size(text)
    assert str(caught.value) == f"expected a size such as 5GB or 512MiB, got {text!r}"
