"""Exceptions and exit codes: what a rank says of itself, in all the ways in which Python code can say it."""

from __future__ import annotations

from typing import Final

from relight.configs.protocol import ExitCode
from relight.tests.faults.labelled import Case, case, on_rank_1, with_gloo, with_torch

BUG: Final = "USER_BUG"

EXCEPTIONS: Final[list[Case]] = [
    case("an exception on rank 0", BUG, "if rank == 0: raise ValueError('no column')\nsignal.pause()", first=0),
    case("an exception on rank 1", BUG, on_rank_1("raise KeyError('loss')"), said="KeyError: 'loss' ("),
    case("an assertion without a text", BUG, on_rank_1("assert rank == 0"), said="cause    AssertionError ("),
    case(
        "an exception at a step, while the other is in a collective",
        BUG,
        with_gloo("if rank == 1: raise ZeroDivisionError('at step 3')\nwhile True: step()"),
    ),
    case(
        "an exception at a step of rank 0",
        BUG,
        with_gloo("if rank == 0: raise TypeError('at step 3')\nwhile True: step()"),
        first=0,
    ),
    case(
        "an exception that is told after the process group is gone",
        BUG,
        with_gloo(
            """
            try:
                if rank == 1: raise ValueError("the cause")
                while True: step()
            finally:
                if rank == 1:
                    dist.destroy_process_group()
                    threading.Event().wait(0.3)  # It writes its logs.
            """
        ),
        said="ValueError: the cause",
    ),
    case(
        "an exception, and a last attempt to save without the others",
        BUG,
        with_gloo(
            """
            if rank == 0: signal.pause()
            try:
                raise ValueError("the cause")
            finally:
                raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
            """
        ),
        said="from ValueError: the cause",
    ),
    case("both at once", BUG, with_gloo("raise ValueError('the same on all')"), first=None),
    case(
        "two that differ, one after the other",
        BUG,
        with_gloo("if rank == 0: threading.Event().wait(0.2)\nraise ValueError(f'of rank {rank}')"),
        said="ValueError: of rank 1",
    ),
    case(
        "an exception whose text raises",
        BUG,
        on_rank_1(
            """
            class Bad(Exception):
                def __str__(self): raise ValueError("no text")
            raise Bad
            """
        ),
        said="Bad: (its text cannot be had: ValueError in __str__)",
    ),
    case("a text of 20 MB", BUG, on_rank_1("raise ValueError('x' * 20_000_000)"), said="ValueError: xxx"),
    case("a text that is no Unicode", BUG, on_rank_1("raise ValueError(b'caf\\xe9'.decode(errors='surrogateescape'))")),
    case("endless recursion", BUG, on_rank_1("def f(): g()\ndef g(): f()\nf()"), said="RecursionError"),
    case(
        "an error raised from another",
        BUG,
        on_rank_1("try: {}['x']\nexcept KeyError as e: raise RuntimeError('no such column') from e"),
        said="RuntimeError: no such column (",
    ),
    case(
        "a group of errors",
        BUG,
        on_rank_1("raise ExceptionGroup('two tasks', [ValueError('a'), TypeError('b')])"),
        said="ExceptionGroup: two tasks",
    ),
    case("a missing package", BUG, "import no_such_package", first=None, said="No module named 'no_such_package'"),
    case("a syntax error", BUG, "def broken(:\n    pass", first=None, said="SyntaxError"),
    case("a missing file", BUG, on_rank_1("open('/no/such/data.bin')"), said="FileNotFoundError"),
    case("a missing module", BUG, first=None, target=("-m", "no_such_module"), said="No module named"),
    case("a program that it calls fails", BUG, on_rank_1("subprocess.run(['false'], check=True)")),
    case("the data source hangs up", BUG, on_rank_1("raise ConnectionResetError(104, 'Connection reset by peer')")),
    case(
        "an error before the ranks have met",
        BUG,
        with_torch("if rank == 1: raise ValueError('too early')\ndist.init_process_group('gloo')"),
        said="ValueError: too early",
    ),
    case(
        "an error that torch's @record has seen first",
        BUG,
        on_rank_1(
            """
            from torch.distributed.elastic.multiprocessing.errors import record
            @record
            def main(): raise ValueError("recorded")
            main()
            """
        ),
        said="ValueError: recorded",
    ),
    case(
        "shapes that do not fit",
        BUG,
        with_gloo("if rank == 1: torch.ones(2, 3) @ torch.ones(2, 3)\nwhile True: step()"),
        said="mat1 and mat2 shapes cannot be multiplied",
    ),
]

EXITS: Final[list[Case]] = [
    case("sys.exit with a number", BUG, on_rank_1("sys.exit(3)"), said="exit code 3"),
    case("sys.exit with a text", BUG, on_rank_1("sys.exit('no such dataset: x')"), said="no such dataset: x"),
    case("os._exit", BUG, on_rank_1("os._exit(3)"), said="exit code 3"),
    case("a thread that ends the process", BUG, on_rank_1("threading.Thread(target=os._exit, args=(9,)).start()")),
    case("exit code 70", "GAVE_UP", "sys.exit(70)", first=None),
    case("exit code 75", "PREEMPTED", "sys.exit(75)", first=None, code=ExitCode.PREEMPTED),
    case("exit code 78", "BAD_CONFIG", "sys.exit(78)", first=None, code=ExitCode.BAD_CONFIG),
    case("a thread that raises", None, "threading.Thread(target=int, args=('x',)).start()", code=ExitCode.FINISHED),
    case("an error in an exit handler", None, "import atexit\natexit.register(int, 'x')", code=ExitCode.FINISHED),
    case("a program that fails", BUG, first=None, target=("--no-python", "sh", "-c", "exit 3"), said="exit code 3"),
    case(
        "a Python that raises",
        BUG,
        first=None,
        target=("--no-python", "python", "-S", "-c", "raise ValueError"),
        said="exit code 1 (",
    ),
]
