"""torchvision's weights by name: which file they are, and where it is. Only torch hub's own address is ever asked."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import torch
from torch import nn
from torchvision import models

from ....configs.initial import WEIGHTS_NAME
from ...errors import BadWeights

_FAMILY: Final = "torchvision.models"
_MOST_BUILT: Final = 3


def find_weights(name: str, model: nn.Module | None) -> Any:
    """The member of torchvision's enumerations that `name` means (see `WEIGHTS_NAME`).

    `model` is the live one; it is looked at when the name alone does not say of which architecture the weights are.

    Raises:
        BadWeights: there are none of this name, or more than one model could be meant.
    """
    parts = WEIGHTS_NAME.fullmatch(name)
    assert parts is not None
    if parts["enum"]:
        return _of_enumeration(parts["enum"], parts["name"])
    builder = parts["model"] or _builder_of(model, parts["name"])
    if builder not in models.list_models():
        raise BadWeights(f"init_from: torchvision has no model {builder}.{_near(builder, models.list_models())}")
    return _member(models.get_model_weights(builder), parts["name"])


def cached(weights: Any) -> str:
    """The file of these weights in torch hub's cache, its hash compared; fetched first where it is not there.

    Raises:
        BadWeights: it is damaged, or there is no network.
    """
    url = weights.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    match = torch.hub.HASH_REGEX.search(path.name)
    prefix = match.group(1) if match else ""
    if path.exists():
        _check_hash(path, prefix)
        return str(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), prefix or None, progress=False)
    except (OSError, RuntimeError) as error:
        raise BadWeights(
            f"init_from: {weights} is not at {path}, and cannot be fetched from {url}: {error}. Where there is no "
            "network, bring the file there, or anywhere, and name the file: init_from: path/to/" + path.name
        ) from None
    return str(path)


def _check_hash(path: Path, prefix: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(prefix):
        raise BadWeights(
            f"init_from: {path} is not what torchvision has published: its SHA-256 begins with {found[: len(prefix)]} "
            f"instead of {prefix}. Delete it, and it is fetched again"
        )


def _of_enumeration(enum: str, member: str) -> Any:
    known = {found.__name__: found for found in map(models.get_model_weights, models.list_models())}
    if enum not in known:
        raise BadWeights(f"init_from: torchvision has no {enum}.{_near(enum, known)}")
    return _member(known[enum], member)


def _member(enum: Any, name: str) -> Any:
    if name not in enum.__members__:
        there = ", ".join(enum.__members__) or "none"
        raise BadWeights(f"init_from: there are no {enum.__name__}.{name}; torchvision has: {there}")
    return enum[name]


def _builder_of(model: nn.Module | None, name: str) -> str:
    """The one architecture of torchvision's that has weights of this name and the model's tensors, but for a head."""
    ours = _shapes(model) if model is not None else {}
    alike = {
        candidate: sum(theirs[key] == ours[key] for key in ours)
        for candidate in _candidates(model, name)
        if (theirs := _shapes(_blank(candidate))).keys() == ours.keys()
    }
    best = [candidate for candidate, count in alike.items() if count == max(alike.values())]
    if len(best) != 1:
        could = f" (it could be {', '.join(best)})" if best else ""
        raise BadWeights(
            f"init_from: {name} does not say of which model the weights are{could}. Name it, too, for example "
            f"resnet18:{name}; for a file or folder of that name write ./{name}"
        )
    return best[0]


def _candidates(model: nn.Module | None, name: str) -> list[str]:
    """The architectures of the model's family that are nearest to it in size: all of them take seconds to build."""
    if model is None:
        return []
    size = sum(parameter.numel() for parameter in model.parameters())
    family = {kind.__module__ for kind in type(model).__mro__ if kind.__module__.startswith(_FAMILY)}
    found = {}
    for candidate in models.list_models():
        weights = models.get_model_weights(candidate).__members__.get(name)
        if weights is not None and models.get_model_builder(candidate).__module__ in family:
            found[candidate] = abs(weights.meta["num_params"] - size)
    return sorted(found, key=found.__getitem__)[:_MOST_BUILT]


def _blank(builder: str) -> nn.Module:
    with torch.device("meta"):  # No memory, and no random numbers are drawn.
        blank: nn.Module = models.get_model(builder, weights=None)
    return blank


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""
