"""Every format of a real run holds what the live objects do, and is read by the programs that it is for."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load as load_dcp

from relight.storage.backends.open import open_backend
from relight.storage.errors import Damaged, NotFound
from relight.tests.workers.checkpoint.jobs import Job
from relight.tests.workers.exchange.exporting import saving
from relight.tests.workers.exchange.exporting.modules import Stateful, half
from relight.tests.workers.exchange.exporting.saving import flip, load, net, save, shards
from relight.workers.errors import NotExported
from relight.workers.exchange.exporting.export import export
from relight.workers.exchange.exporting.formats import Format, Watching, Wishes

ALONE = "ignore:torch.distributed is disabled:UserWarning"


def _equal(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], it) for name, it in expected.items())


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("job") / "run").train()


@pytest.fixture
def url(job: Job) -> str:
    return job.checkpointer.url


def test_a_state_dict_is_taken_by_the_model_strictly(url: str, job: Job, tmp_path: Path) -> None:
    done = export(url, tmp_path / "out.pth", format="state-dict")
    found = load(tmp_path / "out.pth")
    Job(tmp_path / "other").model.load_state_dict(found)
    assert _equal(found, job.model.state_dict())
    assert (done.step, done.tensors, done.bytes) == (10, 9, (tmp_path / "out.pth").stat().st_size)


def test_a_hand_written_loop_goes_on_from_a_general_checkpoint(url: str, job: Job, tmp_path: Path) -> None:
    export(url, tmp_path / "out.pt", format=Format.CHECKPOINT)
    found = load(tmp_path / "out.pt")
    again = Job(tmp_path / "other")
    again.model.load_state_dict(found["model_state_dict"])
    again.optimizer.load_state_dict(found["optimizer_state_dict"])
    again.scheduler.load_state_dict(found["scheduler_state_dict"])
    assert (found["epoch"], found["step"], found["loss"]) == (2, 10, job.checkpointer.progress.loss)
    points = torch.randn(8, 4)
    for each in (job_copy := copy.deepcopy((job.model, job.optimizer)), (again.model, again.optimizer)):
        model, optimizer = each
        torch.manual_seed(0)
        optimizer.zero_grad()
        model(points).square().mean().backward()
        optimizer.step()
    assert _equal(again.model.state_dict(), job_copy[0].state_dict())
    assert again.scheduler.state_dict() == job.scheduler.state_dict()


def test_the_names_stand_beside_the_numbers_and_the_rest_under_relight(url: str, tmp_path: Path) -> None:
    export(url, tmp_path / "out.pt", format="checkpoint")
    found = load(tmp_path / "out.pt")
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    assert found["optimizer_state_dict"]["param_groups"][0]["param_names"] == names
    assert list(found["optimizer_state_dict"]["state"]) == [0, 1, 2, 3, 4, 5]
    assert found["relight"]["optimizers"] == {"optimizer": {"class": "AdamW", "params": [names], "param_names": False}}
    assert found["relight"]["state"] == {"data": {"length": 40, "order": "shuffled", "seed": 3}}
    assert found["relight"]["progress"]["samples"] == 0


def test_safetensors_hold_the_model_alone(url: str, job: Job, tmp_path: Path) -> None:
    export(url, tmp_path / "out.safetensors", format="safetensors")
    assert _equal(load_file(tmp_path / "out.safetensors"), job.model.state_dict())
    export(url, tmp_path / "folder", format="safetensors", wishes=Wishes(shard_bytes=100))
    files = list((tmp_path / "folder").glob("*.safetensors"))
    assert len(files) > 1
    assert _equal({name: it for file in files for name, it in load_file(file).items()}, job.model.state_dict())


@pytest.mark.filterwarnings(ALONE)
def test_dcp_fills_the_state_dicts_that_its_users_have(url: str, job: Job, tmp_path: Path) -> None:
    export(url, tmp_path / "out", format="dcp")
    again = Job(tmp_path / "other")
    again.model(torch.randn(8, 4)).mean().backward()
    again.optimizer.step()  # So that its state has the tensors that are to be filled.
    wanted: dict[str, Any] = {"model": again.model.state_dict(), "optimizer": _by_name(again), "progress": {"step": 0}}
    load_dcp(wanted, checkpoint_id=tmp_path / "out", no_dist=True)
    assert _equal(wanted["model"], job.model.state_dict())
    for name, moments in _by_name(job)["state"].items():
        assert _equal(wanted["optimizer"]["state"][name], moments)
    assert wanted["optimizer"]["param_groups"] == _by_name(job)["param_groups"]
    assert wanted["progress"]["step"] == 10


def _by_name(job: Job) -> dict[str, Any]:
    names = [name for name, _ in job.model.named_parameters()]
    found = copy.deepcopy(job.optimizer.state_dict())
    groups = [{**group, "params": [names[number] for number in group["params"]]} for group in found["param_groups"]]
    return {"state": {names[number]: it for number, it in found["state"].items()}, "param_groups": groups}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, nn.Module]]:
    url = tmp_path_factory.mktemp("two") / "run"
    torch.manual_seed(0)
    models = {"generator": net(), "discriminator": nn.Linear(2, 1)}
    optimizers = {name: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for name, model in models.items()}
    average = nn.Linear(3, 3)
    save(url, model=models, optimizer=optimizers, extra={"average": average})
    return url, {**models, "average": average}


@pytest.mark.filterwarnings(ALONE)
def test_several_models_are_nested_where_a_format_can(two: tuple[Path, dict[str, nn.Module]], tmp_path: Path) -> None:
    url, models = two
    export(str(url), tmp_path / "out.pt", format="checkpoint")
    found = load(tmp_path / "out.pt")
    for name in ("generator", "discriminator"):
        assert _equal(found["model_state_dict"][name], models[name].state_dict())
        optimizer = torch.optim.SGD(models[name].parameters(), lr=1.0)
        optimizer.load_state_dict(found["optimizer_state_dict"][name])
        assert optimizer.param_groups[0]["lr"] == 0.1
    assert found["relight"]["models"] == ["discriminator", "generator"]
    average = {f"average/{name}": it for name, it in models["average"].state_dict().items()}
    assert _equal(found["relight"]["tensors"], average)
    export(str(url), tmp_path / "dcp", format="dcp")
    wanted: dict[str, Any] = {"model": {"generator": net().state_dict()}}
    load_dcp(wanted, checkpoint_id=tmp_path / "dcp", no_dist=True)
    assert _equal(wanted["model"]["generator"], models["generator"].state_dict())


def test_of_several_models_one_is_asked_for_by_name(two: tuple[Path, dict[str, nn.Module]], tmp_path: Path) -> None:
    url, models = two
    export(str(url), tmp_path / "out", format="safetensors", wishes=Wishes(only="generator"))
    assert _equal(load_file(tmp_path / "out"), models["generator"].state_dict())
    for only, said in ((None, "this format holds one"), ("critic", "none is called critic")):
        with pytest.raises(NotExported) as caught:
            export(str(url), tmp_path / "other", format="state-dict", wishes=Wishes(only=only))
        choice = "add --only discriminator or --only generator"
        assert str(caught.value) == f"{url}@1 holds several models, and {said}: {choice}"
    assert not (tmp_path / "other").exists()


def test_wishes_that_a_format_cannot_grant_are_refused(url: str, tmp_path: Path) -> None:
    cases = [
        ("state-dict", Wishes(model="a:b"), "--model is for --format torch: state-dict holds no architecture"),
        ("torch", Wishes(shard_bytes=5), "--shard-bytes is for --format safetensors: torch is not cut into files"),
        ("dcp", Wishes(only="x"), "--only is for one model's weights: dcp holds all there is"),
        ("state-dict", Wishes(only="x"), f"{url}@10 holds one model, which has no name: leave out --only x"),
    ]
    for form, wishes, said in cases:
        with pytest.raises(NotExported) as caught:
            export(url, tmp_path / "out", format=form, wishes=wishes)
        assert str(caught.value) == said
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_tensor_in_a_models_state_goes_along(tmp_path: Path) -> None:
    save(tmp_path / "run", model=Stateful(seen=7))
    export(str(tmp_path / "run"), tmp_path / "out.pth", format="state-dict")
    again = Stateful()
    again.load_state_dict(load(tmp_path / "out.pth"))
    assert again.seen == 7
    export(str(tmp_path / "run"), tmp_path / "out.safetensors", format="safetensors")
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "relight.model": '{"_extra_state":{"seen":7}}'}


def test_dtypes_stay_and_a_run_without_an_optimizer_has_none(tmp_path: Path) -> None:
    model = half()
    save(tmp_path / "run", model=model)
    export(str(tmp_path / "run"), tmp_path / "out.pt", format="checkpoint")
    found = load(tmp_path / "out.pt")
    assert found["model_state_dict"]["weight"].dtype == torch.bfloat16
    assert _equal(found["model_state_dict"], model.state_dict())
    assert "optimizer_state_dict" not in found


@pytest.mark.parametrize("form", ["state-dict", "checkpoint", "safetensors", "dcp"])
def test_a_damaged_checkpoint_is_passed_over_or_refused_and_leaves_nothing(form: str, tmp_path: Path) -> None:
    save(tmp_path / "run", model=nn.Linear(2048, 3072), steps=2)  # Several blocks, of which the last is damaged.
    flip(shards(tmp_path / "run")[0])
    said: list[str] = []
    totals: list[int] = []
    watching = Watching(on_notice=said.append, on_total=totals.append)
    done = export(str(tmp_path / "run"), tmp_path / "out", format=form, watching=watching)
    assert done.step == 1
    assert totals == [2048 * 3072 * 4 + 3072 * 4] * 2
    (notice,) = said
    assert notice.startswith("step 2 is passed over: ")
    assert "the checksum of block" in notice
    with pytest.raises(Damaged):
        export(f"{tmp_path / 'run'}@2", tmp_path / "other", format=form)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_where_there_is_nothing_to_export_it_says_so(url: str, tmp_path: Path) -> None:
    for target, said in (
        (f"{url}@99", f"there is no committed checkpoint of step 99 at {url}"),
        (f"{tmp_path}/none", f"there is no run at {tmp_path}/none"),
    ):
        with pytest.raises(NotFound) as caught:
            export(target, tmp_path / "out", format="dcp")
        assert said in str(caught.value)
    open_backend(f"{tmp_path}/run").put("run.json", b"")
    with pytest.raises(NotFound) as caught:
        export(f"{tmp_path}/run", tmp_path / "out", format="dcp")
    assert str(caught.value) == f"there is no valid checkpoint at {tmp_path}/run"


@pytest.mark.parametrize("form", ["torch", "state-dict", "checkpoint", "safetensors", "dcp"])
def test_ctrl_c_in_the_middle_leaves_nothing(form: str, url: str, tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    model = f"{saving.__name__}:job_net" if form == "torch" else None
    with pytest.raises(KeyboardInterrupt):
        export(url, tmp_path / "out", format=form, wishes=Wishes(model=model), watching=Watching(on_bytes=stop))
    assert list(tmp_path.iterdir()) == []


def test_every_byte_is_counted_for_who_watches(url: str, tmp_path: Path) -> None:
    for form in ("state-dict", "checkpoint", "safetensors", "dcp"):
        totals: list[int] = []
        counts: list[int] = []
        watching = Watching(on_total=totals.append, on_bytes=counts.append)
        export(url, tmp_path / form, format=form, watching=watching)
        assert totals == [sum(counts)], form
        assert totals[0] > 0
