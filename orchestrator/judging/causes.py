"""Why a worker group ended: from what every rank left behind to the one first cause. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...configs.failure import FailureReport
from .failures import BY_EXIT_CODE, ExitEvidence, Failure, FailureClass, signal_name
from .kinds import Surroundings, Verdict, judge

_URGENCY: Final = {kind: place for place, kind in enumerate(BY_EXIT_CODE.values())} | {
    FailureClass.COMMUNICATION: len(BY_EXIT_CODE) + 1
}
_MOST_BESIDE: Final = 3
_ALONE: Final = Surroundings(known_errors={})


def classify(evidence: Sequence[ExitEvidence], around: Surroundings = _ALONE) -> Failure | None:
    """The first cause, or None when every rank finished.

    An exit code that is an answer (78, 70, 75, in this order) goes before everything. Otherwise the earliest failure
    is the cause, but errors of the communication between ranks come last: they are what the others see of a rank
    that is gone.
    """
    failed = sorted((each for each in evidence if each.failed_by_itself), key=lambda each: each.moment)
    if not failed:
        return None
    verdicts = {each.rank: judge(each, around) for each in failed}
    first = min(failed, key=lambda each: (_urgency(verdicts[each.rank].kind), each.moment))
    verdict = verdicts[first.rank]
    return Failure(
        kind=verdict.kind,
        rank=first.rank,
        what=verdict.what,
        step=_step_of(first),
        committed_step=max((each.beat.committed_step for each in evidence if each.beat is not None), default=-1),
        resumed_step=max((each.beat.resumed_step for each in evidence if each.beat is not None), default=-1),
        details=_details(first.report),
        message=first.report.message if first.report is not None else "",
        signal_name=signal_name(first.returncode) if first.report is None else "",
        folded=len(failed) - 1,
        beside=_beside(failed, first, verdicts),
        at_ns=first.moment[0],
    )


def is_echo(evidence: ExitEvidence) -> bool:
    """It says no more than that another rank is gone, or does not answer: that one may be about to say why."""
    return evidence.report is not None and judge(evidence, _ALONE).kind is FailureClass.COMMUNICATION


def _urgency(kind: FailureClass) -> int:
    return _URGENCY.get(kind, len(BY_EXIT_CODE))


def _beside(failed: Sequence[ExitEvidence], first: ExitEvidence, verdicts: dict[int, Verdict]) -> tuple[str, ...]:
    others = [each for each in failed if each is not first]
    return tuple(f"rank {each.rank}: {verdicts[each.rank].what}" for each in others[:_MOST_BESIDE])


def _details(report: FailureReport | None) -> str:
    if report is None:
        return ""
    return report.traceback or (report.message if "\n" in report.message else "")


def _step_of(evidence: ExitEvidence) -> int:
    if evidence.report is not None and evidence.report.step >= 0:
        return evidence.report.step
    return evidence.beat.step if evidence.beat is not None else -1
