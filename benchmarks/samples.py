"""What was measured several times: medians, how far single samples lie apart, and ratios of the two. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Samples = Sequence[float]


def summary(samples: Samples) -> dict[str, Any]:
    """Median, least and greatest, and the samples themselves in the order in which they were taken."""
    return {"median": median(samples), "min": min(samples), "max": max(samples), "samples": list(samples)}


def ratio(numerator: Samples | None, denominator: Samples | None) -> float | None:
    """Median over median; None where one of the two was not measured, or the denominator is nothing."""
    if not numerator or not denominator or median(denominator) == 0:
        return None
    return median(numerator) / median(denominator)


def paired_ratio(numerators: Samples, denominators: Samples) -> float | None:
    """The median of the ratios of neighbours, for what was measured by turns: a drift of the machine hits both."""
    pairs = [over / under for over, under in zip(numerators, denominators, strict=True) if under > 0]
    return median(pairs) if pairs else None


def noise(samples: Samples) -> float | None:
    """The same thing twice: the greater over the lesser median of the samples taken at odd and at even turns.

    1.0 is silence. A ratio nearer to 1 than this says nothing. None for fewer than four samples.
    """
    if len(samples) < 4:
        return None
    halves = sorted((median(samples[::2]), median(samples[1::2])))
    return halves[1] / halves[0] if halves[0] > 0 else None


def summaries(measured: Mapping[str, Samples]) -> dict[str, Any]:
    return {name: summary(samples) for name, samples in measured.items() if samples}
