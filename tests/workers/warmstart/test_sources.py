"""Every kind of source gives the same model the same bytes, whole or in boxes; what cannot be read is refused."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from relight.storage.boxes import Box
from relight.storage.layout import AttemptId
from relight.tests.workers.warmstart.nets import (
    digest,
    net,
    write_index,
    write_run,
    write_safetensors,
    write_torch,
)
from relight.workers.checkpoint.collective import Circle
from relight.workers.checkpoint.warmstart.loading import init_from
from relight.workers.checkpoint.warmstart.opening import open_source
from relight.workers.errors import BadWeights

Write = Callable[[nn.Module, Path], Path | str]


def _at_a_step(model: nn.Module, folder: Path) -> str:
    """Behind it are a newer checkpoint and other values."""
    write_run(model, folder / "run", steps=2)
    other = net(77)
    other.load_state_dict(model.state_dict())
    write_run(other, folder / "run", steps=1)
    return f"{folder / 'run'}@2"


def _remote(model: nn.Module, folder: Path) -> str:
    url = f"memory://files/{folder.name}/a.safetensors"
    with fsspec.open(url, "wb") as file:
        file.write(write_safetensors(model, folder / "a.safetensors").read_bytes())
    return url


def _old_style(model: nn.Module, folder: Path) -> Path:
    torch.save(model.state_dict(), folder / "a.pth", _use_new_zipfile_serialization=False)
    return folder / "a.pth"


SOURCES: dict[str, Write] = {
    "safetensors": lambda model, folder: write_safetensors(model, folder / "a.safetensors"),
    "an index": lambda model, folder: write_index(model, folder / "several"),
    "a folder with an index": lambda model, folder: write_index(model, folder / "several").parent,
    "a state dict": lambda model, folder: write_torch(model.state_dict(), folder / "a.pt"),
    "a state dict of old": _old_style,
    "under state_dict": lambda model, folder: write_torch({"state_dict": model.state_dict()}, folder / "a.ckpt"),
    "under model_state_dict": lambda model, folder: write_torch(
        {"model_state_dict": model.state_dict(), "loss": torch.tensor(1.0), "epoch": 3}, folder / "a.pth"
    ),
    "under model": lambda model, folder: write_torch({"model": model.state_dict(), "args": {}}, folder / "a.bin"),
    "wrapped by DDP": lambda model, folder: write_torch(nn.ModuleDict({"module": model}).state_dict(), folder / "a.pt"),
    "a run": lambda model, folder: write_run(model, folder / "run"),
    "a run at a step": _at_a_step,
    "a file by URL": lambda model, folder: write_safetensors(model, folder / "a.safetensors").as_uri(),
    "a remote file": _remote,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    source = net(1)
    where = SOURCES[kind](source, tmp_path)
    model = net(2)
    optimizer = torch.optim.AdamW(model.parameters())
    parameters = list(model.parameters())
    initial = init_from(model, str(where))
    assert digest(model.state_dict()) == digest(source.state_dict())
    assert initial.loaded == len(source.state_dict())
    # Whatever refers to the parameters goes on to do so.
    assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))
    assert optimizer.param_groups[0]["params"][0] is parameters[0]


@pytest.mark.parametrize("kind", ["safetensors", "an index", "a state dict", "a state dict of old", "a run"])
def test_any_box_of_a_tensor_can_be_read(tmp_path: Path, kind: str) -> None:
    source = net(1, width=700)  # More than one block of a shard.
    where = SOURCES[kind](source, tmp_path)
    dice = random.Random(5)
    with ExitStack() as keep:
        opened = open_source(str(where), None, Circle(None), keep)
        assert {name: it.shape for name, it in opened.described.items()} == {
            name: tuple(it.shape) for name, it in source.state_dict().items()
        }
        for name, tensor in source.state_dict().items():
            for _ in range(5):
                starts = tuple(dice.randrange(length) for length in tensor.shape)
                ends = tuple(dice.randint(s + 1, length) for s, length in zip(starts, tensor.shape, strict=True))
                box = Box(starts, tuple(end - start for start, end in zip(starts, ends, strict=True)))
                assert torch.equal(opened.read(name, box), tensor[box.slices]), (name, box)


def test_a_remote_file_leaves_no_copy_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = _remote(net(1), tmp_path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    init_from(net(2), where)
    assert not list(temporary.iterdir())


# --- what torch.save can hold ---


def test_a_whole_pickled_model_is_refused_with_the_way_out_and_runs_no_code(tmp_path: Path) -> None:
    class Trap(nn.Module):
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    for model in (net(1), Trap()):
        with pytest.raises(BadWeights) as caught:
            init_from(net(2), str(write_torch({"model": model}, tmp_path / "a.pt")))
        assert "cannot be read without running code from it: it holds " in str(caught.value)
        assert "write the state dict alone: torch.save(model.state_dict(), FILE)" in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_what_a_file_holds_besides_tensors_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), str(write_torch(nn.Linear(1, 1), tmp_path / "a.pt")))
    assert "it holds torch.nn.modules.linear.Linear. Where you trust it" in str(caught.value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is deprecated.
        torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "a.pt")
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), str(tmp_path / "a.pt"))
    assert "it holds a TorchScript program. Where you trust it" in str(caught.value)


def test_a_file_without_a_state_dict_says_what_it_has(tmp_path: Path) -> None:
    content = {"ema": net(1).state_dict(), "optimizer": {}, "epoch": 4}
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), str(write_torch(content, tmp_path / "a.pt")))
    assert "itself or under state_dict, model_state_dict, model; it holds: ema, optimizer, epoch" in str(caught.value)
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), str(write_torch([torch.ones(3)], tmp_path / "a.pt")))
    assert "holds a list, not a state dict" in str(caught.value)


def test_where_the_state_dict_was_found_is_said(tmp_path: Path) -> None:
    initial = init_from(net(2), str(write_torch({"model": net(1).state_dict()}, tmp_path / "a.pt")))
    assert initial.title == f"{tmp_path / 'a.pt'} (under 'model' in it)"


# --- what is broken, or not there ---


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _without_a_shard(folder: Path) -> Path:
    (folder / "model-2-of-2.safetensors").unlink()
    return folder / "model.safetensors.index.json"


def _index(folder: Path, document: Any) -> Path:
    path = folder / "b.safetensors.index.json"
    path.write_text(json.dumps(document))
    return path


def _float4(path: Path) -> Path:
    save_file({"scale": torch.zeros(4, dtype=torch.float8_e8m0fnu)}, path)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: at / "a.pt", "init_from: there is no file {at}/a.pt"),
        (lambda at: at / "nothing", "init_from: there is no committed checkpoint at {at}/nothing"),
        (lambda at: f"{write_run(net(1), at / 'run')}@7", "of step 7 at {at}/run (there are: 1)"),
        (lambda at: _cut(write_safetensors(net(1), at / "a.safetensors")), "a.safetensors is not a whole safetensors"),
        (lambda at: _cut(write_torch(net(1).state_dict(), at / "a.pt")), "a.pt is not a whole file of torch's"),
        (lambda at: _without_a_shard(write_index(net(1), at / "x").parent), "no file {at}/x/model-2-of-2.safetensors"),
        (lambda at: _index(at, {"files": {}}), "index.json is not an index: it must be JSON with a weight_map"),
        (lambda at: _index(at, {"weight_map": {"a": "../a.pt"}}), "names files that do not lie beside it: ../a.pt"),
        (lambda at: _float4(at / "a.safetensors"), "scale in {at}/a.safetensors is of F8_E8M0, which is not served"),
        (lambda at: write_safetensors(net(1), at / "weights"), "is a file, of a kind that its name does not say"),
        (lambda at: "s3://key:secret@bucket/a.pt", "leave credentials"),
        (lambda at: "memory://a/b.safetensors.index.json", "names other files, which are only read from a"),
        (lambda at: "memory://nowhere/b.pt", "b.pt"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), str(make(tmp_path)))
    assert message.format(at=tmp_path).lower() in str(caught.value).lower()
    assert "secret" not in str(caught.value)


def test_an_index_that_is_wrong_about_its_files_is_refused(tmp_path: Path) -> None:
    path = write_index(net(1), tmp_path / "x")
    document = json.loads(path.read_text())
    document["weight_map"]["more"] = "model-1-of-2.safetensors"
    path.write_text(json.dumps(document))
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), str(path))
    assert "says that more is in model-1-of-2.safetensors, and it is not" in str(caught.value)


def test_a_run_with_a_flipped_bit_is_not_begun_with(tmp_path: Path) -> None:
    url = Path(write_run(net(1, width=700), tmp_path / "run"))
    (folder,) = (url / "checkpoints").iterdir()
    attempt = AttemptId.parse(folder.name)
    assert attempt is not None
    shard = url / attempt.shard_key(0, 1)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BadWeights) as caught:
        init_from(net(2, width=700), str(url))
    assert "is damaged: the checksum of block" in str(caught.value)
