"""Ranks that are gone without a word, memory that runs out, and what becomes of loader workers."""

from __future__ import annotations

from typing import Final

from relight.tests.faults.labelled import Case, case, on_rank_1, with_gloo, with_torch

KILLED: Final = "KILLED"
MEMORY: Final = "OUT_OF_MEMORY"
KEEP_LOGS: Final = ("--redirects=3", "--log-dir=LOGS")

CRASHES: Final[list[Case]] = [
    case("a segmentation fault", KILLED, on_rank_1("ctypes.string_at(0)"), said="killed by SIGSEGV"),
    case("an abort", KILLED, on_rank_1("os.abort()"), said="killed by SIGABRT"),
    case("a SIGKILL", KILLED, on_rank_1("os.kill(os.getpid(), 9)"), said="killed by SIGKILL"),
    case("a SIGTERM without a handler", KILLED, on_rank_1("os.kill(os.getpid(), 15)"), said="killed by SIGTERM"),
    case("a bus error", KILLED, on_rank_1("os.kill(os.getpid(), signal.SIGBUS)"), said="killed by SIGBUS"),
    case("a SIGINT to a rank", KILLED, on_rank_1("os.kill(os.getpid(), 2)\nsignal.pause()"), said="KeyboardInterrupt"),
    case(
        "a SIGKILL while the other is in a collective",
        KILLED,
        with_gloo("if rank == 1: os.kill(os.getpid(), 9)\nwhile True: step()"),
        said="killed by SIGKILL",
    ),
    case(
        "a crash of rank 0 while the other is in a collective",
        KILLED,
        with_gloo("if rank == 0: ctypes.string_at(0)\nwhile True: step()"),
        first=0,
        said="killed by SIGSEGV",
    ),
    case(
        "a C++ exception that nobody catches",
        KILLED,
        on_rank_1("ctypes.CDLL('libstdc++.so.6')._ZSt9terminatev()"),
        said="killed by SIGABRT",
    ),
    case(
        "a shell that tells of a crash",
        KILLED,
        first=None,
        target=("--no-python", "sh", "-c", "sh -c 'kill -s SEGV $$'; exit $?"),
        said="exit code 139 (SIGSEGV)",
    ),
    case(
        "a program that crashes",
        KILLED,
        first=None,
        target=("--no-python", "sh", "-c", "kill -s SEGV $$"),
        said="killed by SIGSEGV",
    ),
]

LITTLE_ROOM: Final = """
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20),) * 2)
"""

OUT_OF_MEMORY: Final[list[Case]] = [
    case(
        "no memory on the GPU",
        MEMORY,
        with_gloo(
            "if rank == 1: raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB')\nstep()"
        ),
    ),
    case("a MemoryError", MEMORY, on_rank_1("raise MemoryError")),
    case("a limit of the address space, met by Python", MEMORY, on_rank_1(f"{LITTLE_ROOM}\nbytearray(1 << 33)")),
    case(
        "a limit of the address space, met by torch",
        MEMORY,
        with_torch(on_rank_1(f"{LITTLE_ROOM}\ntorch.empty(1 << 33)")),
        said="can't allocate memory",
    ),
    case(
        "a limit of the address space, met by NumPy",
        MEMORY,
        on_rank_1(f"import numpy\n{LITTLE_ROOM}\nnumpy.ones(1 << 31)"),
    ),
    case(
        "no memory, told by another error",
        MEMORY,
        on_rank_1(
            """
            import torch
            try: raise torch.OutOfMemoryError("CUDA out of memory.")
            except RuntimeError as error: raise ValueError("step 7 failed") from error
            """
        ),
        said="ValueError: step 7 failed, from OutOfMemoryError: CUDA out of memory.",
    ),
    case(
        "cuBLAS without memory",
        MEMORY,
        on_rank_1("raise RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`')"),
    ),
    case(
        "a C++ exception for want of memory, in the log",
        MEMORY,
        on_rank_1(
            """
            what = "terminate called after throwing an instance of 'std::bad_alloc'\\n  what():  std::bad_alloc\\n"
            os.write(2, what.encode())
            os.abort()
            """
        ),
        flags=KEEP_LOGS,
        said="killed by SIGABRT: std::bad_alloc",
    ),
]

FETCHING: Final = """
class Data(Dataset):
    def __len__(self): return 8
    def __getitem__(self, index):
        if index == 4: fail()
        return index
def fetch(**options):
    for _ in DataLoader(Data(), num_workers=1, **options): pass
"""

LOADERS: Final[list[Case]] = [
    case(
        "a loader worker that is killed",
        KILLED,
        # Told by its signal, or by the connection that breaks with it, whichever torch sees first.
        with_torch(on_rank_1(f"def fail(): os.kill(os.getpid(), 9)\n{FETCHING}\nfetch()")),
    ),
    case(
        "a loader worker that crashes",
        KILLED,
        with_torch(on_rank_1(f"def fail(): ctypes.string_at(0)\n{FETCHING}\nfetch()")),
    ),
    case(
        "a loader worker that leaves",
        KILLED,
        with_torch(on_rank_1(f"def fail(): os._exit(1)\n{FETCHING}\nfetch()")),
    ),
    case(
        "an exception in a loader worker",
        "USER_BUG",
        with_torch(on_rank_1(f"def fail(): raise ValueError('no image 4')\n{FETCHING}\nfetch()")),
        said="ValueError: no image 4 (in a loader worker) (",
    ),
    case(
        "a KeyError in a loader worker",
        "USER_BUG",
        with_torch(on_rank_1(f"def fail(): return {{}}['image']\n{FETCHING}\nfetch()")),
        said="KeyError: 'image' (in a loader worker) (",
    ),
    case(
        "no memory in a loader worker",
        MEMORY,
        with_torch(on_rank_1(f"def fail(): raise MemoryError\n{FETCHING}\nfetch()")),
        said="MemoryError (in a loader worker) (",
    ),
    case(
        "samples that do not stack",
        "USER_BUG",
        with_torch(
            on_rank_1(
                f"""
count = [0]
def fail(): pass
{FETCHING}
Data.__getitem__ = lambda self, index: torch.ones(index)
fetch(batch_size=2)
"""
            )
        ),
        said="RuntimeError: stack expects each tensor to be equal size",
    ),
    case(
        "a full /dev/shm",
        MEMORY,
        on_rank_1(
            """
            raise RuntimeError(
                "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers "
                "are out of shared memory. Please try to raise your shared memory limit."
            )
            """
        ),
    ),
    case(
        "a loader that takes too long",
        "USER_BUG",
        with_torch(on_rank_1(f"def fail(): signal.pause()\n{FETCHING}\nfetch(timeout=1)")),
        said="DataLoader timed out after 1 seconds",
    ),
]
