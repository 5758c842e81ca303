"""How often to save, from what a save costs and how often the run fails: pure arithmetic.

A run that saves every T seconds at a cost of C each, and fails once in M seconds, loses C/T of its time to saving and
T/2M to redoing. The sum is least at T = sqrt(2CM): Young, "A first order approximation to the optimum checkpoint
interval" (CACM 1974); Daly's refinement (FGCS 2006) matters only where T is no longer small against M.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

PRIOR_FAILURE_S: Final = 6 * 3600.0
"""One failure in this time is assumed before any is seen; what is seen outweighs it soon."""
LONGEST_S: Final = 3600.0
SHORTEST_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Advice:
    """Save every `interval_s` seconds; the rest is why: seconds a save costs, mean seconds between failures."""

    interval_s: float
    cost_s: float
    mtbf_s: float
    bound: str
    """What decided: "young", or the limit that was met: "overhead", "shortest", "longest"."""

    @property
    def facts(self) -> dict[str, float | str]:
        """For the journal."""
        return {
            "interval_s": self.interval_s,
            "save_cost_s": self.cost_s,
            "mtbf_s": self.mtbf_s,
            "decided_by": self.bound,
        }


def mtbf(failures: int, watched_s: float) -> float:
    """Mean time between failures in seconds, from what was seen and what is assumed before anything is."""
    return (PRIOR_FAILURE_S + watched_s) / (1 + failures)


def advise(cost_s: float, mtbf_s: float, *, overhead: float) -> Advice:
    """The interval that loses least, but never one at which saving takes more than `overhead` of the time."""
    best = math.sqrt(2 * cost_s * mtbf_s)
    bounds = {"young": best, "overhead": cost_s / overhead, "shortest": SHORTEST_S}
    bound = max(bounds, key=lambda name: bounds[name])
    if bounds[bound] > LONGEST_S and bound == "young":
        bound, bounds["longest"] = "longest", LONGEST_S
    return Advice(bounds[bound], cost_s, mtbf_s, bound)
