"""Who is it? From beats and stacks to the one rank that the others wait for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from relight.configs.heartbeat import Beat, Phase
from relight.orchestrator import hang_report
from relight.orchestrator.judging.failures import FailureClass
from relight.orchestrator.judging.hangs import Frame, Look, compiles, failure_of, hang_of, suspect
from relight.orchestrator.judging.patience import Wait

TORCH = "/venv/lib/python3.12/site-packages/torch"
LOOP = Frame("/job/train.py", 9, "main")

BACKWARD = (
    Frame(f"{TORCH}/autograd/graph.py", 829, "_engine_run_backward"),
    Frame(f"{TORCH}/_tensor.py", 1, "backward"),
    LOOP,
)
ALL_REDUCE = (
    Frame(f"{TORCH}/distributed/distributed_c10d.py", 2810, "all_reduce"),
    Frame("/job/train.py", 30, "extra"),
    LOOP,
)
BARRIER = (Frame(f"{TORCH}/distributed/distributed_c10d.py", 4800, "barrier"), Frame("/job/train.py", 40, "sync"), LOOP)
VOTE = (Frame("/venv/site-packages/relight/workers/agreement.py", 70, "read"), LOOP)
ITEM = (Frame("/job/train.py", 50, "log", "print(loss.item())"), LOOP)
BUSY = (
    Frame("/job/train.py", 60, "spin", "while True:"),
    Frame(f"{TORCH}/nn/parallel/distributed.py", 1, "forward"),
    LOOP,
)
LOADER = (Frame(f"{TORCH}/utils/data/dataloader.py", 1275, "_try_get_data"), LOOP)


def look(stack: tuple[Frame, ...] = BACKWARD, state: str = "S") -> Look:
    return Look(state, (stack,) if stack else ())


def beats(*steps: int) -> dict[int, Beat]:
    """The later ranks have beaten later."""
    return {rank: Beat(Phase.TRAINING, step, 5, -1, 1, rank) for rank, step in enumerate(steps)}


@pytest.mark.parametrize(
    ("steps", "looks", "rank", "why"),
    [
        ((9, 9), (look(), look((), "T")), 1, "its process is stopped (by a SIGSTOP; state T)"),
        ((8, 9), (look(BUSY), look((), "T")), 1, "its process is stopped (by a SIGSTOP; state T)"),
        ((10, 9), (look(VOTE), look(VOTE)), 1, "it is behind: others have finished step 10"),
        ((10, 10, 9, 10), (look(), look(BUSY), look(), look()), 2, "it is behind: others have finished step 10"),
        (
            (9, 9),
            (look(), look(BUSY)),
            1,
            "its main thread is at /job/train.py:60 in spin, and the others wait for it",
        ),
        (
            (9, 9, 9),
            (look(LOADER), look(), look(VOTE)),
            0,
            "its main thread is at /job/train.py:9 in main, and the others wait for it",
        ),
        (
            (9, 9),
            (look(ITEM), look(BUSY)),
            1,
            "its main thread is at /job/train.py:60 in spin, and the others wait for it",
        ),
        ((9, 9), (look(), look((), "D")), 1, "its process does not answer (state D)"),
        (
            (9, 9),
            (look(), look(ALL_REDUCE)),
            1,
            "its main thread is at /job/train.py:30 in extra, where the others are not",
        ),
        (
            (9, 9),
            (look(BARRIER), look()),
            0,
            "its main thread is at /job/train.py:40 in sync, where the others are not",
        ),
        (
            (9, 9, 9, 9),
            (look(BARRIER), look(BARRIER), look(), look(BARRIER)),
            2,
            "its main thread is at /job/train.py:9 in main, where the others are not",
        ),
        ((9, 9), (look(), look()), 0, "all ranks stand at the same place, and its last sign of life is the oldest"),
        ((9,), (look(BUSY),), 0, "its main thread is at /job/train.py:60 in spin"),
        ((9,), (look(VOTE),), 0, "its last sign of life is the oldest"),
    ],
)
def test_the_rank_that_the_others_wait_for_is_named(
    steps: tuple[int, ...], looks: tuple[Look, ...], rank: int, why: str
) -> None:
    found = suspect(beats(*steps), dict(enumerate(looks)))
    assert (found.rank, found.why) == (rank, why)


def test_a_rank_that_has_not_come_so_far_as_to_beat_is_behind() -> None:
    only_first = {0: beats(3)[0]}
    assert suspect(only_first, {0: look(VOTE), 1: look(BUSY)}).rank == 1


@pytest.mark.parametrize(
    ("looks", "elsewhere"),
    [
        ({0: look(), 1: look()}, True),
        ({0: look(VOTE)}, True),
        ({0: look(), 1: look(ALL_REDUCE)}, False),
        ({0: look(BUSY), 1: look()}, False),
        ({0: look((), "T"), 1: look()}, False),
    ],
)
def test_when_all_of_a_host_wait_it_may_be_another_hosts(looks: Mapping[int, Look], *, elsewhere: bool) -> None:
    assert suspect(beats(9, 9), looks).elsewhere is elsewhere


@pytest.mark.parametrize(
    ("file", "function", "compiling"),
    [
        (f"{TORCH}/_dynamo/convert_frame.py", "_compile", True),
        (f"{TORCH}/_dynamo/eval_frame.py", "compile_wrapper", False),
        (f"{TORCH}/_inductor/graph.py", "run_node", True),
        (f"{TORCH}/_inductor/async_compile.py", "wait", True),
        (f"{TORCH}/_inductor/compile_fx.py", "_compile_fx_inner", True),
        (f"{TORCH}/_inductor/compile_fx.py", "run", False),
        (f"{TORCH}/_inductor/output_code.py", "__call__", False),
        (f"{TORCH}/_inductor/runtime/triton_heuristics.py", "autotune_to_one_config", True),
        (f"{TORCH}/_inductor/runtime/triton_heuristics.py", "run", False),
        ("/venv/lib/python3.12/site-packages/triton/compiler/compiler.py", "compile", True),
        ("/venv/lib/python3.12/site-packages/triton/runtime/jit.py", "run", False),
        (f"{TORCH}/utils/cpp_extension.py", "_run_ninja_build", True),
        ("/job/compile.py", "compile", False),
    ],
)
def test_what_compiles_is_told_from_what_was_compiled(file: str, function: str, *, compiling: bool) -> None:
    inside = (Frame("/usr/lib/python3.12/subprocess.py", 1, "wait"), Frame(file, 1, function), LOOP)
    assert compiles(look(inside)) is compiling
    # A backward pass is compiled in a thread of autograd's on a GPU.
    assert compiles(Look("S", (BACKWARD, inside))) is compiling


def test_a_failure_says_who_why_and_where() -> None:
    looks = {0: look(), 1: look(BUSY)}
    hang = hang_of(Wait(0, 6.24, 5.0, declared=False), suspect(beats(9, 9), looks), beats(9, 9), looks)
    failure = failure_of(hang)
    assert (failure.kind, failure.rank, failure.step, failure.committed_step) == (FailureClass.HANG, 1, 9, 5)
    assert failure.what == "it hangs: its main thread is at /job/train.py:60 in spin, and the others wait for it"
    assert failure.details.splitlines() == [
        "Stack of the main thread (most recent call last):",
        '  File "/job/train.py", line 9, in main',
        f'  File "{TORCH}/nn/parallel/distributed.py", line 1, in forward',
        '  File "/job/train.py", line 60, in spin',
        "    while True:",
    ]


def test_the_terminal_gets_a_short_block() -> None:
    looks = {0: look(), 1: look(BUSY), 2: Look("D", (), "process 7: D (disk sleep), in the kernel at nfs_wait")}
    hang = hang_of(Wait(0, 6.24, 5.0, declared=False), suspect(beats(9, 8, 9), looks), beats(9, 8, 9), looks)
    assert hang_report.block(hang, "logs/attempt_1").splitlines() == [
        "rank 1 hangs after step 8: silent for 6.2 s, 5.0 s are the limit",
        "  because  it is behind: others have finished step 9",
        "  stack    /job/train.py:60 in spin: while True:",
        "           /job/train.py:9 in main",
        f"  rank 0   {TORCH}/autograd/graph.py:829 in _engine_run_backward",
        "  rank 2   process 7: D (disk sleep), in the kernel at nfs_wait",
        "  stacks   of all ranks are in logs/attempt_1",
    ]
    assert hang_report.block(hang, "").endswith("  stacks   are kept with --log-dir")


def test_the_journal_gets_bounded_stacks_the_rank_that_hangs_first() -> None:
    looks = {rank: Look("S", (BUSY if rank == 50 else BACKWARD,), "x" * 100_000) for rank in range(64)}
    all_beats = beats(*[9] * 64)
    hang = hang_of(Wait(3, 6.0, 5.0, declared=False), suspect(all_beats, looks), all_beats, looks)
    entries = hang_report.stacks(hang)
    assert [entry["rank"] for entry in entries][:3] == [50, 0, 1]
    assert sum(len(entry["text"]) for entry in entries) < 100_000
    assert hang_report.facts(hang) == {
        "rank": 50,
        "step": 9,
        "waited_s": 6.0,
        "limit_s": 5.0,
        "why": hang.why,
        "ranks": list(range(64)),
    }
