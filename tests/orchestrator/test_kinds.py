"""What kind of failure one rank had, seen alone."""

from __future__ import annotations

import pytest

from relight.orchestrator.judging.failures import ExitEvidence, FailureClass
from relight.tests.orchestrator.ends import TORN, ended, first_of, raised, report


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        (ended(0, -9), FailureClass.KILLED),
        (ended(0, -11), FailureClass.KILLED),
        (ended(0, 1), FailureClass.USER_BUG),
        (ended(0, 78, report("BadTask")), FailureClass.BAD_CONFIG),
        (ended(0, 70, report("Fenced")), FailureClass.GAVE_UP),
        (ended(0, 75), FailureClass.PREEMPTED),
        (ended(0, 1, report("ValueError", "no")), FailureClass.USER_BUG),
        (ended(0, 1, report("OutOfMemoryError", "CUDA out of memory.")), FailureClass.OUT_OF_MEMORY),
        (ended(0, 1, report("MemoryError")), FailureClass.OUT_OF_MEMORY),
        (
            ended(0, 1, report("RuntimeError", "DefaultCPUAllocator: can't allocate memory: you tried")),
            FailureClass.OUT_OF_MEMORY,
        ),
        (ended(0, 1, report("DistBackendError", "NCCL error")), FailureClass.COMMUNICATION),
        (ended(0, 1, report("DistNetworkError", "The client socket has timed out")), FailureClass.COMMUNICATION),
        (ended(0, 1, TORN), FailureClass.COMMUNICATION),
        (ended(0, 1, report("RuntimeError", "shape mismatch")), FailureClass.USER_BUG),
        (ended(0, 1, report("ConnectionResetError", "Connection reset by peer")), FailureClass.USER_BUG),
        (ended(0, 1, report("StorageUnavailable", "no space")), FailureClass.STORAGE),
        (ended(0, 1, report("StorageTrouble", "no answer")), FailureClass.STORAGE),
        (ended(0, 1, report("OtherRun", "holds another run")), FailureClass.BAD_CONFIG),
        (ended(0, 1, report("Superseded", "a later generation")), FailureClass.GAVE_UP),
        (ended(0, 1, report("KeyboardInterrupt")), FailureClass.KILLED),
        (ended(0, 139), FailureClass.KILLED),
        (ended(0, 200), FailureClass.USER_BUG),
        (ended(0, 1, report("SystemExit", "no such dataset")), FailureClass.USER_BUG),
    ],
)
def test_kinds(evidence: ExitEvidence, kind: FailureClass) -> None:
    assert first_of(evidence).kind is kind


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (
            "RuntimeError",
            "[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1000ms for recv",
            "COMMUNICATION",
        ),
        ("RuntimeError", "Gloo connectFullMesh failed with [...] no error", "COMMUNICATION"),
        ("RuntimeError", "[Rank 0]: Ranks 1 failed to pass monitoredBarrier in 5000 ms", "COMMUNICATION"),
        ("DistBackendError", "NCCL error in: x.cpp:1, unhandled system error, NCCL version 2.21.5", "COMMUNICATION"),
        ("DistBackendError", "NCCL communicator was aborted on rank 1.", "COMMUNICATION"),
        ("DistBackendError", "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(", "COMMUNICATION"),
        ("DistBackendError", "NCCL error: ncclInvalidUsage ... Duplicate GPU detected : rank 1 and rank 0", "USER_BUG"),
        ("DistBackendError", "NCCL error: Cuda failure 2 'out of memory'", "OUT_OF_MEMORY"),
        ("DistStoreError", "Timed out after 61 seconds waiting for clients. 1/2 clients joined.", "COMMUNICATION"),
        ("RuntimeError", "Distributed package doesn't have NCCL built in", "USER_BUG"),
        ("RuntimeError", "DataLoader timed out after 5 seconds", "USER_BUG"),
        ("RuntimeError", "DataLoader worker (pid 12) is killed by signal: Killed. ", "KILLED"),
        ("RuntimeError", "DataLoader worker (pid(s) 12, 13) exited unexpectedly", "KILLED"),
        (
            "RuntimeError",
            (
                "DataLoader worker (pid 9) is killed by signal: Bus error. It is possible that dataloader's workers "
                "are out of shared memory. Please try to raise your shared memory limit."
            ),
            "OUT_OF_MEMORY",
        ),
        ("RuntimeError", "unable to write to file </torch_12_3_4>: No space left on device (28)", "OUT_OF_MEMORY"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "OUT_OF_MEMORY"),
        ("RuntimeError", "CUDA error: device-side assert triggered", "USER_BUG"),
        ("RuntimeError", "CUDA error: an illegal memory access was encountered", "USER_BUG"),
        ("RuntimeError", "CUDA error: uncorrectable ECC error encountered", "HARDWARE"),
        ("RuntimeError", "[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0", "STORAGE"),
        ("OSError", "[Errno 28] No space left on device: '/data/log'", "STORAGE"),
        ("OSError", "[Errno 28] No space left on device: '/dev/shm/x'", "OUT_OF_MEMORY"),
        ("OSError", "[Errno 12] Cannot allocate memory", "OUT_OF_MEMORY"),
        ("FileNotFoundError", "[Errno 2] No such file or directory: 'data'", "USER_BUG"),
        ("ValueError", "NCCL error", "USER_BUG"),
    ],
)
def test_what_a_text_means(kind: str, text: str, expected: str) -> None:
    assert first_of(raised(kind, text)).kind.name == expected


def test_a_class_is_known_by_what_it_inherits_from() -> None:
    assert first_of(raised("_ArrayMemoryError", bases=("MemoryError",))).kind is FailureClass.OUT_OF_MEMORY
    ecc = raised("AcceleratorError", "CUDA error: uncorrectable ECC error encountered", bases=("RuntimeError",))
    assert first_of(ecc).kind is FailureClass.HARDWARE


def test_a_name_alone_does_not_make_it_the_storages_error() -> None:
    assert first_of(raised("NotFound", module="google.api_core.exceptions")).kind is FailureClass.USER_BUG
    assert first_of(raised("NotFound", module="relight.storage.errors")).kind is FailureClass.STORAGE
