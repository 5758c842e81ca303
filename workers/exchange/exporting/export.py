"""From a checkpoint to another program's format: every byte proven, one tensor in memory, all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ....storage.backends.open import open_backend
from ....storage.choosing import choices
from ....storage.errors import Damaged
from ....storage.target import split_target
from ...errors import NotExported
from . import plain_plans
from .formats import Exported, Format, Watching, Wishes
from .landing import bytes_at, check_free, landing_file, landing_folder
from .source import Planner, Source


def export(
    target: str | Path,
    out: str | Path,
    *,
    format: Format | str,  # noqa: A002 -- as the option is called
    wishes: Wishes | None = None,
    watching: Watching | None = None,
) -> Exported:
    """Write the checkpoint that `target` (URL or URL@STEP) names to the local path `out`, whole or not at all.

    Without a step the newest of which every byte is proven: a damaged one is passed over, and `watching` told.

    Raises:
        NotExported: what is asked for does not fit the checkpoint or the place; the message says what to change.
        NotFound: there is no such run or checkpoint.
        Damaged: the step that was asked for is damaged.
    """
    chosen, wishes, watching = Format(format), wishes or Wishes(), watching or Watching()
    _check(chosen, wishes)
    is_folder = chosen is Format.DCP or wishes.shard_bytes is not None
    path = check_free(str(out), overwrite=wishes.overwrite, is_folder=is_folder)
    url, step = split_target(str(target))
    backend = open_backend(url)
    for manifest in choices(backend, step):
        try:
            source = Source(backend, manifest, watching)
            plan = _planner(chosen)(source, wishes)
            source.announce(plan.names)
            landing = landing_folder if is_folder else landing_file
            with landing(path, overwrite=wishes.overwrite) as beside:
                plan.write(beside)
        except Damaged as error:
            if step is not None:
                raise
            watching.on_notice(f"step {manifest.step} is passed over: {error}")
        else:
            return Exported(
                out=str(path), format=chosen, step=manifest.step, checkpoint=manifest.id.name,
                bytes=bytes_at(path), tensors=len(plan.names),
            )  # fmt: skip
    raise AssertionError("choices end with an error, never without")


def _check(chosen: Format, wishes: Wishes) -> None:
    if wishes.model is not None and chosen is not Format.TORCH:
        raise NotExported(f"--model is for --format torch: {chosen} holds no architecture")
    if wishes.shard_bytes is not None and chosen is not Format.SAFETENSORS:
        raise NotExported(f"--shard-bytes is for --format safetensors: {chosen} is not cut into files")
    if wishes.only is not None and chosen in {Format.CHECKPOINT, Format.DCP}:
        raise NotExported(f"--only is for one model's weights: {chosen} holds all there is")


def _planner(chosen: Format) -> Planner:
    """Only what hands a module, or is written by DCP, needs torch: seconds, and half a gigabyte of memory."""
    if chosen is Format.TORCH:
        from .module_plan import whole_model

        return whole_model
    if chosen is Format.DCP:
        from .dcp_folder import dcp

        return dcp
    return _PLAIN[chosen]


_PLAIN: Final[Mapping[Format, Planner]] = {
    Format.STATE_DICT: plain_plans.state_dict,
    Format.CHECKPOINT: plain_plans.general_checkpoint,
    Format.SAFETENSORS: plain_plans.safetensors,
}
