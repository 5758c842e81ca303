"""torchvision's weights by name: from torch hub's cache, fetched where they are not there, never unproven."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum, _api

from relight.configs.initial import is_weights_name
from relight.tests.workers.warmstart.nets import digest, net, write_torch
from relight.workers.checkpoint.warmstart.loading import init_from
from relight.workers.checkpoint.warmstart.settings import InitFrom
from relight.workers.checkpoint.warmstart.torchvision_weights import find_weights
from relight.workers.errors import BadWeights, StateMismatch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one of torch hub's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub" / "checkpoints"


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Path]:
    """A model of torchvision's that is not one of its own: `relight_tiny`, with weights that file:// URLs lead to."""
    content = write_torch(net(1).state_dict(), tmp_path / "tiny.pth").read_bytes()
    path = tmp_path / f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}/{path.name}"

    class Tiny_Weights(WeightsEnum):  # type: ignore[misc]  # noqa: N801 -- torchvision's way
        NEAR_V1 = _api.Weights(path.as_uri(), transforms=nn.Identity, meta={})
        FAR_V1 = _api.Weights(nowhere, transforms=nn.Identity, meta={})

    def relight_tiny(*, weights: Any = None) -> nn.Module:
        return net(0)

    relight_tiny.__annotations__["weights"] = Tiny_Weights | None
    _api.register_model()(relight_tiny)
    yield path
    del _api.BUILTIN_MODELS["relight_tiny"]


@pytest.mark.parametrize("name", ["relight_tiny:NEAR_V1", "Tiny_Weights.NEAR_V1"])
def test_weights_are_fetched_once_and_then_taken_from_the_cache(cache: Path, published: Path, name: str) -> None:
    for seed in (2, 3):
        model = net(seed)
        initial = init_from(model, name)
        assert digest(model.state_dict()) == digest(net(1).state_dict())
        assert initial.title == f"Tiny_Weights.NEAR_V1 ({cache / published.name})"
        published.unlink(missing_ok=True)


def test_a_cached_file_that_is_not_what_was_published_is_refused(cache: Path, published: Path) -> None:
    cache.mkdir(parents=True)
    write_torch(net(4).state_dict(), cache / published.name)
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), "relight_tiny:NEAR_V1")
    assert f"{cache / published.name} is not what torchvision has published: its SHA-256 begins with" in str(
        caught.value
    )
    assert "Delete it, and it is fetched again" in str(caught.value)


def test_where_there_is_no_network_the_file_and_its_place_are_named(cache: Path, published: Path) -> None:
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), "relight_tiny:FAR_V1")
    assert f"Tiny_Weights.FAR_V1 is not at {cache / published.name}, and cannot be fetched from http://" in str(
        caught.value
    )
    assert f"name the file: init_from: path/to/{published.name}" in str(caught.value)
    model = net(2)
    init_from(model, str(published))
    assert digest(model.state_dict()) == digest(net(1).state_dict())


def test_a_published_file_that_is_damaged_on_the_way_is_not_kept(cache: Path, published: Path) -> None:
    published.write_bytes(published.read_bytes()[:-1] + b"x")
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), "relight_tiny:NEAR_V1")
    assert "invalid hash value" in str(caught.value)
    assert not list(cache.iterdir())


@pytest.mark.parametrize("builder", ["resnet18", "resnet50", "vit_b_16"])
def test_a_bare_name_is_enough_where_the_model_is_torchvisions_own(builder: str) -> None:
    with torch.device("meta"):
        model = models.get_model(builder, num_classes=10)
    assert find_weights("IMAGENET1K_V1", model) is models.get_model_weights(builder)["IMAGENET1K_V1"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("IMAGENET1K_V1", "IMAGENET1K_V1 does not say of which model the weights are. Name it, too, for example"),
        ("resnet81:IMAGENET1K_V1", "torchvision has no model resnet81. Did you mean resnet18?"),
        ("resnet18:IMAGENET1K_V9", "there are no ResNet18_Weights.IMAGENET1K_V9; torchvision has: IMAGENET1K_V1"),
        ("ResNet81_Weights.IMAGENET1K_V1", "torchvision has no ResNet81_Weights. Did you mean ResNet18_Weights?"),
        ("lenet:IMAGENET1K_V1", "torchvision has no model lenet."),
    ],
)  # fmt: skip
def test_a_name_that_means_none_or_several_is_refused_with_what_there_is(name: str, message: str) -> None:
    with pytest.raises(BadWeights) as caught:
        init_from(net(2), name)
    assert message in str(caught.value)


def test_weights_of_imagenet_need_one_line_for_a_head_of_another_size(tmp_path: Path) -> None:
    published = models.resnet18(num_classes=20)
    state = {name: it for name, it in published.state_dict().items() if not name.endswith("num_batches_tracked")}
    path = str(write_torch(state, tmp_path / "resnet18-old.pth"))  # As files from before torch 0.4.1 are.
    model = models.resnet18(num_classes=10)
    with pytest.raises(StateMismatch) as caught:
        init_from(model, path)
    assert 'under init_from:\n  exclude: ["fc"]' in str(caught.value)
    initial = init_from(model, InitFrom(path, exclude=["fc"]))
    assert torch.equal(model.layer4[1].bn2.running_var, published.layer4[1].bn2.running_var)
    assert len(initial.comparison.missing) == 20
    assert initial.facts["kept"] == 2


def test_every_name_of_torchvisions_is_known_as_one() -> None:
    for builder in models.list_models():
        for weights in models.get_model_weights(builder):
            assert is_weights_name(str(weights))
            assert is_weights_name(f"{builder}:{weights.name}")
            assert is_weights_name(weights.name)
            assert find_weights(str(weights), None) is weights
