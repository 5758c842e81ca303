"""`relight import` says what it took and what it did not; what cannot be imported is one line with the way out."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from relight.__main__ import main
from relight.tests.workers.exchange.importing.foreign import ByHand, saved, whole

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def relight_import(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["import", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def test_what_was_taken_and_what_was_not_is_said(tmp_path: Path, relight_import: Run) -> None:
    loop = ByHand.begin().train(6)
    wrapped = {f"module.{name}": value for name, value in loop.model.state_dict().items()}
    content = {**loop.general(), "model_state_dict": wrapped, "best_acc": 0.9, "ema": {"w": 1}}
    file = saved(content, tmp_path / "loop.pt")
    code, out, err = relight_import(file, tmp_path / "run")
    assert (code, err) == (0, "")
    first, *lines = out.splitlines()
    assert first.startswith(f"imported {file} (a general checkpoint, ")
    assert lines == [
        f"  at         step 6, epoch 1, loss {loop.losses[-1]:g}",
        "  model      11 tensors (under 'model_state_dict')",
        (
            "  optimizer  state of 8 parameters, 6 steps (under 'optimizer_state_dict'), "
            "named by the order of the model's parameters"
        ),
        "  scheduler  its state (under 'scheduler_state_dict')",
        "  note       'module.' is taken off the names of the model's tensors",
        "  note       ema can be kept, for Checkpointer(extra={'NAME': ...}): --rename-key ema=NAME",
        "  note       the step, 6, is what the optimizer has counted; --step N says another",
        "  left out   best_acc, ema: no part of a run that is known",
        "What is not listed begins anew: random generators, the position in the data, and whatever else the run has.",
        (
            f"next: relight run CONFIG storage.url={tmp_path / 'run'}, "
            f"or relight.Checkpointer('{tmp_path / 'run'}', ...) in a script"
        ),
    ]


def test_scripts_get_json(tmp_path: Path, relight_import: Run) -> None:
    file = saved({**ByHand.begin().train(2).general(), "best_acc": 0.9}, tmp_path / "loop.pt")
    code, out, _ = relight_import(file, tmp_path / "run", "--json", "--epoch", 3)
    found = json.loads(out)
    assert (code, found["step"], found["epoch"], found["left_out"]) == (0, 2, 3, ["best_acc"])
    assert found["checkpoint"] == whole(tmp_path / "run").manifest.id.name
    assert sorted(found["parts"]) == ["model", "optimizer", "scheduler"]


def test_a_misspelt_key_is_asked_about_and_taken_when_it_is_named(tmp_path: Path, relight_import: Run) -> None:
    content = ByHand.begin().train(2).general()
    content["optimazer_state_dict"] = content.pop("optimizer_state_dict")
    file = saved(content, tmp_path / "loop.pt")
    code, _, err = relight_import(file, tmp_path / "run")
    assert code == 1
    assert err == (
        "relight: the key 'optimazer_state_dict' is not known: did you mean optimizer_state_dict? To take it for that: "
        "--rename-key optimazer_state_dict=optimizer_state_dict; to leave it out: --without optimazer_state_dict\n"
    )
    renamed = "optimazer_state_dict=optimizer_state_dict"
    assert relight_import(file, tmp_path / "run", "--rename-key", renamed)[0] == 0
    assert "optimizer" in whole(tmp_path / "run").state


def nothing(_: Path) -> None:
    pass


def text(path: Path) -> None:
    path.write_text("dear diary\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated_zip(path: Path) -> None:
    saved({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


def torn_pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x02torn")


def truncated_safetensors(path: Path) -> None:
    save_file({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-1])


def unknown_dtype(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(3))


def folder(path: Path) -> None:
    path.mkdir()
    (path / "readme.txt").write_text("nothing here")


def relights_own(path: Path) -> None:
    path.mkdir()
    (path / "run.json").write_text("{}")


def torn_index(path: Path) -> None:
    path.mkdir()
    (path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-1.safetensors"}}')


def outside_index(path: Path) -> None:
    path.mkdir()
    (path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "../secret.safetensors"}}')


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no such file": (nothing, "there is no file or folder {file}"),
    "a text": (text, "{file} is no checkpoint: what can be imported is a .pt or .pth file of torch.save"),
    "an empty file": (empty, "{file} is empty: what can be imported is"),
    "a truncated zip": (truncated_zip, "{file} is not a whole file of torch's: "),
    "a torn pickle": (torn_pickle, "{file} is not a whole file of torch's: "),
    "truncated safetensors": (truncated_safetensors, "{file} is not a whole safetensors file: "),
    "an unknown dtype": (unknown_dtype, "F6_E2M3"),
    "a folder": (folder, "{file} is a folder without .metadata (DCP's) and without model.safetensors.index.json or"),
    "a run": (relights_own, "{file} is a run of Relight's already: relight cp copies a checkpoint of it"),
    "an index of nothing": (torn_index, "there is no file {file}/model-1.safetensors"),
    "an index that leads out": (outside_index, "names files that do not lie beside it: ../secret.safetensors"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, relight_import: Run, kind: str) -> None:
    make, said = BAD[kind]
    make(tmp_path / "file")
    code, out, err = relight_import(tmp_path / "file", tmp_path / "run")
    assert (code, out) == (1, "")
    assert err.startswith("relight: ")
    assert err.count("\n") == 1
    assert said.format(file=tmp_path / "file") in err
    assert not (tmp_path / "run").exists()


def test_a_url_in_the_files_place_is_one_line(tmp_path: Path, relight_import: Run) -> None:
    code, _, err = relight_import("s3://bucket/weights.pt", tmp_path / "run")
    assert code == 1
    assert err == (
        "relight: s3://bucket/weights.pt is a URL: what is imported is a local file or folder, so copy it here first\n"
    )


def test_a_place_with_a_run_is_refused_and_left_as_it_was(tmp_path: Path, relight_import: Run) -> None:
    file = saved(ByHand.begin().train(2).general(), tmp_path / "loop.pt")
    relight_import(file, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    code, _, err = relight_import(file, tmp_path / "run")
    assert code == 1
    assert err == (
        f"relight: {tmp_path / 'run'} holds a run already. Nothing was changed. "
        "Choose another URL, or go on with the run that is there\n"
    )
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_rename_that_is_no_pair_is_a_usage_error(tmp_path: Path, relight_import: Run) -> None:
    code, _, err = relight_import(tmp_path / "a", tmp_path / "b", "--rename-key", "optimizer")
    assert code == 2
    assert "optimizer is not KEY=PART" in err


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nowhere", "--model nowhere: expected MODULE:CALLABLE"),
        ("nowhere:Net", "--model nowhere:Net: there is no module nowhere"),
        ("torch.nn:Nothing", "--model torch.nn:Nothing: torch.nn has no Nothing that could be called"),
    ],
)
def test_a_model_that_cannot_be_made_is_one_line(tmp_path: Path, relight_import: Run, spec: str, said: str) -> None:
    file = saved(ByHand.begin().model.state_dict(), tmp_path / "weights.pt")
    code, _, err = relight_import(file, tmp_path / "run", "--model", spec)
    assert (code, err.count("\n")) == (1, 1)
    assert said in err
