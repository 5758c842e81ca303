"""A folder of torch.distributed.checkpoint, written by torch's own writer, is read without running anything from it."""

from __future__ import annotations

import io
import os
import pickle  # noqa: TID251 -- what is read without it is made with it
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.checkpoint.state_dict_saver import save

from relight.tests.workers.exchange.importing.foreign import ByHand, bring, tensor, whole
from relight.workers.errors import NotImported
from relight.workers.exchange.importing.dcp_folder import nested

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of a save by one process.


def write(folder: Path, content: dict[str, Any]) -> Path:
    save(content, checkpoint_id=folder, no_dist=True)
    return folder


def of_a_loop(folder: Path) -> tuple[ByHand, Path]:
    loop = ByHand.begin().train(6)
    model, optimizer = get_state_dict(loop.model, loop.optimizer)
    content = {"model": model, "optimizer": optimizer, "lr_scheduler": loop.scheduler.state_dict(), "epoch": 1}
    return loop, write(folder, content)


def metadata_of(folder: Path) -> Metadata:
    found: Metadata = pickle.loads((folder / ".metadata").read_bytes())
    return found


def change(folder: Path, metadata: Any) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def refusal(folder: Path) -> str:
    with pytest.raises(NotImported) as refused:
        bring(folder, folder.with_name("run"))
    assert not folder.with_name("run").exists()
    return str(refused.value)


def test_model_optimizer_and_the_rest_arrive(tmp_path: Path) -> None:
    loop, folder = of_a_loop(tmp_path / "dcp")
    found = bring(folder, tmp_path / "run")
    assert (found.format, found.step, found.epoch) == ("DCP", 6, 1)
    assert sorted(found.parts) == ["model", "optimizer", "scheduler"]
    assert torch.equal(tensor(tmp_path / "run", "model/0.weight"), loop.model.state_dict()["0.weight"])
    moment = loop.optimizer.state[loop.model.get_parameter("0.weight")]["exp_avg"]
    assert torch.equal(tensor(tmp_path / "run", "optimizer/state/0.weight/exp_avg"), moment)
    assert whole(tmp_path / "run").state["scheduler"]["last_epoch"] == 6


def test_a_flat_state_dict_is_the_model(tmp_path: Path) -> None:
    weights = ByHand.begin().model.state_dict()
    bring(write(tmp_path / "dcp", weights), tmp_path / "run")
    assert torch.equal(tensor(tmp_path / "run", "model/0.weight"), weights["0.weight"])


def test_an_optimizer_that_was_flattened_for_pipelines_is_put_together(tmp_path: Path) -> None:
    loop = ByHand.begin().train(2)
    state: tuple[Any, Any] = get_state_dict(loop.model, loop.optimizer)
    model, optimizer = state
    flat = {f"state.{name}.{key}": it for name, own in optimizer["state"].items() for key, it in own.items()}
    for group in optimizer["param_groups"]:
        options = {key: value for key, value in group.items() if key != "params"}
        flat |= {f"param_groups.{name}.{key}": value for name in group["params"] for key, value in options.items()}
    bring(write(tmp_path / "dcp", {"model": model, "optimizer": flat}), tmp_path / "run")
    found = whole(tmp_path / "run")
    (group,) = found.state["optimizer"]["param_groups"]
    assert group["params"] == [name for name, _ in loop.model.named_parameters()]
    assert group["lr"] == 0.05
    assert "optimizer/state/0.weight/exp_avg" in found.tensors


def test_a_tensor_in_parts_of_several_files_is_put_together(tmp_path: Path) -> None:
    whole_tensor = torch.arange(24.0).reshape(4, 6)
    folder = write(tmp_path / "dcp", {"w": whole_tensor})
    metadata = metadata_of(folder)
    ((_, info),) = metadata.storage_data.items()
    entry: Any = metadata.state_dict_metadata["w"]
    entry.chunks, metadata.storage_data = [], {}
    for number, (top, left) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3)]):
        data = io.BytesIO()
        torch.save(whole_tensor[top : top + 2, left : left + 3].clone(), data)
        (folder / f"__{number}_0.distcp").write_bytes(b"before" + data.getvalue())
        entry.chunks.append(ChunkStorageMetadata(torch.Size([top, left]), torch.Size([2, 3])))
        where = type(info)(f"__{number}_0.distcp", 6, len(data.getvalue()))
        metadata.storage_data[MetadataIndex("w", torch.Size([top, left]))] = where
    change(folder, metadata)
    bring(folder, tmp_path / "run")
    assert torch.equal(tensor(tmp_path / "run", "model/w"), whole_tensor)
    del entry.chunks[1]
    change(folder, metadata)
    assert "the parts of w do not make up the whole" in refusal_at(folder)


def refusal_at(folder: Path) -> str:
    with pytest.raises(NotImported) as refused:
        bring(folder, folder.with_name("other"))
    return str(refused.value)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_metadata_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "dcp", {"w": torch.ones(2)})
    metadata = metadata_of(folder)
    metadata.planner_data = Bomb(tmp_path / "boom")
    change(folder, metadata)
    assert refusal(folder) == (
        f"{folder / '.metadata'} names posix.mkdir, which is none of DCP's own classes, "
        "and is not read: it may run code"
    )
    assert not (tmp_path / "boom").exists()


def test_an_object_that_runs_code_needs_trust(tmp_path: Path) -> None:
    folder = write(tmp_path / "dcp", {"model": {"w": torch.ones(2)}, "note": Bomb(tmp_path / "boom")})
    assert "note in " in refusal(folder)
    assert "--trust-pickle" in refusal(folder)
    assert not (tmp_path / "boom").exists()


def test_files_outside_the_folder_are_never_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "dcp", {"w": torch.ones(2)})
    for path in ("../secret", "/etc/passwd"):
        metadata = metadata_of(folder)
        for info in metadata.storage_data.values():
            info.relative_path = path
        change(folder, metadata)
        assert refusal(folder) == f"{folder / '.metadata'} names a file outside its folder: {path}"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / ".metadata").write_bytes(b"\x80\x04nonsense"), "cannot be read as DCP's metadata"),
        (lambda folder: change(folder, {"a": 1}), "holds a dict, and not DCP's metadata"),
        (lambda folder: change(folder, Metadata({}, storage_data=3)), "does not say where everything is"),
        (lambda folder: os.truncate(folder / "__0_0.distcp", 900), "ends before w does: it is not whole"),
        (lambda folder: (folder / "__0_0.distcp").write_bytes(bytes(9000)), "w in "),
    ],
)
def test_a_broken_folder_is_refused_in_a_line(tmp_path: Path, damage: Any, said: str) -> None:
    folder = write(tmp_path / "dcp", {"w": torch.ones(2)})
    damage(folder)
    assert said in refusal(folder)
    assert "\n" not in refusal(folder)


def test_nested_places_become_dicts_and_lists() -> None:
    flat = {"a.1": 2, "a.0": 1, "b.c.0.d": 3, "e": 4}
    places = {"a.1": ("a", 1), "a.0": ("a", 0), "b.c.0.d": ("b", "c", 0, "d")}
    assert nested(flat, places) == {"a": [1, 2], "b": {"c": [{"d": 3}]}, "e": 4}
