"""From samples to the ratios that are claimed, beside their goals. Pure: every name means one division."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .samples import Samples, ratio

Measured = Mapping[str, Mapping[str, Samples]]
"""Samples by measure (`stall_s`, `durable_s`, `restore_s`, ...) and contender."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`over / under`, each a measure and a contender; `goal` with the sign that says on which side it lies."""

    name: str
    over: tuple[str, str]
    under: tuple[str, str]
    goal: str = ""

    def meets(self, value: float) -> bool | None:
        """None without a goal."""
        if not self.goal:
            return None
        sign, _, bound = self.goal.partition(" ")
        return value >= float(bound) if sign == ">=" else value <= float(bound)


def _times_less(name: str, peer: str, goal: str, *, measure: str = "stall_s") -> Claim:
    return Claim(name, (measure, peer), (measure, "relight"), goal)


LOCAL: Final = (
    Claim("stall_over_memcpy", ("stall_s", "relight"), ("stall_s", "memcpy"), "<= 1.2"),
    Claim("stall_overlap_over_memcpy", ("stall_s", "relight_overlap"), ("stall_s", "memcpy"), "<= 0.2"),
    _times_less("stall_speedup_over_torch_save", "torch_save", ">= 20"),
    _times_less("stall_speedup_over_dcp_save", "dcp_save", ">= 20"),
    _times_less("stall_speedup_over_dcp_async", "dcp_async", ">= 10"),
    _times_less("stall_speedup_over_dcp_async_stager", "dcp_async_stager", ">= 2"),
    _times_less("stall_speedup_over_fabric", "fabric", ""),
    Claim("save_durable_over_raw_odirect", ("durable_s", "raw"), ("durable_s", "relight"), ">= 0.8"),
    _times_less("save_durable_speedup_over_dcp", "dcp_save", ">= 4", measure="durable_s"),
    _times_less("save_durable_speedup_over_torch_save", "torch_save", "", measure="durable_s"),
    _times_less("save_durable_speedup_over_fabric", "fabric", "", measure="durable_s"),
    _times_less("restore_speedup_over_dcp", "dcp_save", ">= 2", measure="restore_s"),
    _times_less("restore_warm_speedup_over_dcp", "dcp_save", "", measure="restore_warm_s"),
    _times_less("restore_speedup_over_torch_load", "torch_save", "", measure="restore_s"),
    _times_less("restore_speedup_over_fabric", "fabric", "", measure="restore_s"),
    Claim("restore_over_raw_read", ("restore_s", "raw"), ("restore_s", "relight"), ">= 0.7"),
    Claim("restore_warm_over_raw_read", ("restore_warm_s", "raw_cached"), ("restore_warm_s", "relight")),
    Claim("bytes_read_over_state", ("bytes_read", "relight"), ("bytes", "state"), "<= 1.05"),
)

REMOTE: Final = (
    Claim("s3_stall_over_memcpy", ("stall_s", "relight"), ("stall_s", "memcpy"), "<= 1.2"),
    Claim("s3_save_over_raw_boto3", ("durable_s", "boto3"), ("durable_s", "relight"), ">= 0.9"),
    Claim("s3_save_over_raw_obstore", ("durable_s", "obstore"), ("durable_s", "relight"), ">= 0.9"),
    _times_less("s3_save_speedup_over_dcp_fsspec", "dcp_save", ">= 2", measure="durable_s"),
    _times_less("s3_save_speedup_over_s3torchconnector", "s3torchconnector", "", measure="durable_s"),
    _times_less("s3_restore_speedup_over_dcp_fsspec", "dcp_save", ">= 3", measure="restore_s"),
    _times_less("s3_restore_speedup_over_s3torchconnector", "s3torchconnector", "", measure="restore_s"),
    Claim("s3_restore_over_raw_obstore", ("restore_s", "obstore"), ("restore_s", "relight")),
)

BOTH: Final = (
    Claim("bytes_stored_over_state", ("bytes_stored", "relight"), ("bytes", "state"), "<= 1.2"),
    Claim("peak_memory_over_state", ("peak_extra_bytes", "relight"), ("bytes", "state")),
    Claim("peak_memory_over_arenas", ("peak_extra_bytes", "relight"), ("bytes", "arenas"), "<= 1.1"),
)


def claims(*, remote: bool) -> tuple[Claim, ...]:
    return (*(REMOTE if remote else LOCAL), *BOTH)


def ratios(measured: Measured, *, remote: bool) -> dict[str, float | None]:
    """By name; None for what was not measured."""

    def samples(where: tuple[str, str]) -> Samples | None:
        measure, contender = where
        return measured.get(measure, {}).get(contender)

    return {claim.name: ratio(samples(claim.over), samples(claim.under)) for claim in claims(remote=remote)}
