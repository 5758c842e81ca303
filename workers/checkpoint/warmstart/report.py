"""What was loaded, in words for a person and in numbers for the journal. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .comparing import Comparison
from .tensors import Described

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Initial:
    """What a run has begun with. `described` is of the source, `model` of the model, both by name."""

    title: str
    comparison: Comparison
    described: Mapping[str, Described]
    model: Mapping[str, Described]

    @property
    def loaded(self) -> int:
        return len(self.comparison.pairs)

    @property
    def size(self) -> int:
        """Bytes, as they are in the source."""
        return sum(self.described[theirs].size for theirs, _ in self.comparison.pairs)

    @property
    def facts(self) -> dict[str, Any]:
        done = self.comparison
        return {
            "source": self.title,
            "loaded": self.loaded,
            "tensors": len(self.model),
            "bytes": self.size,
            **{key: len(getattr(done, key)) for key in ("converted", "kept", "missing", "left", "unexpected")},
        }

    @property
    def text(self) -> str:
        done = self.comparison
        lines = [
            ("loaded", f"{self.loaded} of {len(self.model)} tensors, {_readable(self.size)}"),
            ("converted", ", ".join(self._conversions())),
            ("kept", _names(done.kept, "as initialised, by your choice")),
            ("missing", _names(done.missing, "not in the source, as initialised")),
            ("left", _names(done.left, "in the source, not chosen")),
            ("unexpected", _names(done.unexpected, "in the source, not in the model")),
            ("names", "without what DDP or torch.compile had put in them" if done.unwrapped else ""),
        ]
        said = [f"  {key:<11} {what}" for key, what in lines if what]
        return "\n".join([f"beginning with the weights of {self.title}", *said])

    def _conversions(self) -> list[str]:
        names = {ours: theirs for theirs, ours in self.comparison.pairs}
        kinds = Counter((self.described[names[name]].kind, self.model[name].kind) for name in self.comparison.converted)
        return [f"{count} from {before} to {after}" for (before, after), count in kinds.items()]


def _names(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"


def _readable(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
