"""From what was typed to a checked configuration: a file or a preset, overrides on top, local paths made absolute."""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from . import errors
from .document import Document
from .explain import explain
from .initial import is_weights_name
from .schema import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRESETS: Final = Path(__file__).parent


def load(source: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration that `source` and `overrides` describe; raises ConfigError with a text for the user.

    `source` is a file, or the name of a preset (`digits`, `configs/digits.yaml`) where there is no such file.
    `overrides` are `a.b=VALUE`, later ones win. Relative local paths are taken from the current directory.
    """
    document = Document.of_file(source, _read(source))
    for override in overrides:
        document = document.override(override)
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        raise explain(error, document) from None
    return _with_absolute_paths(config)


def presets() -> list[str]:
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def _read(source: str) -> str:
    """The text of the user's file, or else of the preset; a directory named like a preset does not hide it."""
    try:
        return Path(source).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        preset = _preset(source)
        if preset is not None:
            return preset.read_text(encoding="utf-8")
        if isinstance(error, IsADirectoryError):
            raise errors.unreadable(source, "it is a directory") from None
        nearest = difflib.get_close_matches(Path(source).stem, presets(), n=1)
        raise errors.no_such_source(source, presets(), nearest[0] if nearest else None) from None
    except UnicodeDecodeError:
        raise errors.unreadable(source, "it is not UTF-8 text") from None
    except OSError as error:
        raise errors.unreadable(source, error.strerror or str(error)) from None


def _preset(source: str) -> Path | None:
    path = Path(source)
    is_named = path.parts in {(path.name,), ("configs", path.name)} and path.suffix in {"", ".yaml"}
    return _PRESETS / f"{path.stem}.yaml" if is_named and path.stem in presets() else None


def _with_absolute_paths(config: Config) -> Config:
    """Workers may run in another directory, and a run's storage must not depend on where it is resumed from."""
    storage = config.storage.model_copy(update={"url": _absolute(config.storage.url)})
    log, metrics, initial = config.log, config.metrics, config.init_from
    log = log.model_copy(update={"trace": log.trace and _absolute(log.trace)})
    metrics = metrics.model_copy(update={"tensorboard": metrics.tensorboard and _absolute(metrics.tensorboard)})
    if initial.source is not None and not is_weights_name(initial.source):
        initial = initial.model_copy(update={"source": _absolute(initial.source)})
    return config.model_copy(update={"storage": storage, "log": log, "metrics": metrics, "init_from": initial})


def _absolute(location: str) -> str:
    if "://" in location:
        return location
    path = Path(location)
    with contextlib.suppress(RuntimeError):  # `~nobody`: no such user, so it is a name like any other
        path = path.expanduser()
    return str(Path.cwd() / path)
