"""What ranks leave behind, made by hand."""

from __future__ import annotations

from relight.configs.failure import Cause, FailureReport
from relight.configs.heartbeat import Beat, Phase
from relight.orchestrator.judging.causes import classify
from relight.orchestrator.judging.failures import ExitEvidence, Failure
from relight.orchestrator.judging.kinds import Surroundings
from relight.orchestrator.preflight import storage_errors


def report(kind: str, message: str = "", *, at_ns: int = 0, step: int = -1) -> FailureReport:
    return FailureReport(kind, message, f"Traceback of {kind}", step, at_ns)


def ended(
    rank: int,
    returncode: int,
    told: FailureReport | None = None,
    *,
    at_ns: int = 1000,
    killed: bool = False,
    step: int | None = None,
) -> ExitEvidence:
    beat = Beat(Phase.TRAINING, step, step - step % 10, -1, 1, 0) if step is not None else None
    return ExitEvidence(rank, 100 + rank, returncode, rank, at_ns, killed, told, beat)


TORN = report("RuntimeError", "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711", at_ns=5)


def first_of(*evidence: ExitEvidence) -> Failure:
    failure = classify(evidence, Surroundings(storage_errors()))
    assert failure is not None
    return failure


def raised(kind: str, message: str = "", *causes: Cause, bases: tuple[str, ...] = (), module: str = "") -> ExitEvidence:
    told = FailureReport(kind, message, "Traceback", 7, 1, module, bases, causes)
    return ended(0, 1, told)
