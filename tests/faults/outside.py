"""What is not the training code's fault: the network between the ranks, the storage, the configuration, the machine."""

from __future__ import annotations

from typing import Final

from relight.configs.protocol import ExitCode
from relight.tests.faults.labelled import Case, case, on_rank_1, with_gloo, with_torch

TORN: Final = "COMMUNICATION"
NCCL_GONE: Final = (
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, unhandled system error (run with "
    "NCCL_DEBUG=INFO for details), NCCL version 2.21.5\\nncclSystemError: System call (e.g. socket, malloc) or "
    "external library call failed or device error.\\nLast error:\\nsocketProgress: Connection closed by "
    "remote peer node1<40211>"
)
DUPLICATE: Final = (
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, invalid usage (run with NCCL_DEBUG=WARN for "
    "details), NCCL version 2.21.5\\nncclInvalidUsage: This usually reflects invalid usage of NCCL library.\\n"
    "Last error:\\nDuplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
)
WATCHDOG: Final = (
    "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=5, OpType=ALLREDUCE, NumelIn=1, "
    "NumelOut=1, Timeout(ms)=600000) ran for 600011 milliseconds before timing out."
)

BETWEEN_RANKS: Final[list[Case]] = [
    case(
        "a rank that leaves while the other is in a collective",
        TORN,
        with_gloo("if rank == 1: os._exit(0)\nwhile True: step()"),
        first=0,
    ),
    case(
        "a collective that takes too long",
        TORN,
        with_torch(
            """
            dist.init_process_group("gloo", timeout=timedelta(seconds=1))
            if rank == 1: signal.pause()
            dist.all_reduce(torch.ones(1))
            """
        ),
        first=0,
    ),
    case(
        "a rank that never comes",
        TORN,
        with_torch("if rank == 1: signal.pause()\ndist.init_process_group('gloo', timeout=timedelta(seconds=1))"),
        first=0,
    ),
    case(
        "a barrier that is watched",
        TORN,
        with_gloo("if rank == 1: signal.pause()\ndist.monitored_barrier(timeout=timedelta(seconds=1))"),
        first=0,
    ),
    case("NCCL without its peer", TORN, with_torch(on_rank_1(f"raise dist.DistBackendError('''{NCCL_GONE}''')"))),
    case(
        "NCCL's watchdog, in the log",
        TORN,
        on_rank_1(
            f"""
            what = "terminate called after throwing an instance of 'c10::DistBackendError'\\n  what():  {WATCHDOG}\\n"
            os.write(2, what.encode())
            os.abort()
            """
        ),
        flags=("--redirects=3", "--log-dir=LOGS"),
        said="Watchdog caught collective operation timeout",
    ),
    case(
        "a rank that had an error, after the other has seen it gone",
        "USER_BUG",
        with_torch(
            f"""
            if rank == 0: raise dist.DistBackendError('''{NCCL_GONE}''')
            threading.Event().wait(0.3)
            raise ValueError("the cause")
            """
        ),
        said="ValueError: the cause",
    ),
    case("two ranks on one GPU", "USER_BUG", with_torch(on_rank_1(f"raise dist.DistBackendError('''{DUPLICATE}''')"))),
    case(
        "a store that is not there",
        TORN,
        with_torch(on_rank_1("dist.TCPStore('127.0.0.1', 1, is_master=False, timeout=timedelta(seconds=1))")),
    ),
]

MACHINE: Final[list[Case]] = [
    case(
        "memory of a GPU that cannot be corrected",
        "HARDWARE",
        with_torch(on_rank_1("raise torch.AcceleratorError('CUDA error: uncorrectable ECC error encountered')")),
    ),
    case(
        "an assertion on the device",
        "USER_BUG",
        with_torch(on_rank_1("raise torch.AcceleratorError('CUDA error: device-side assert triggered')")),
    ),
    case("a full disk", "STORAGE", on_rank_1("open('/dev/full', 'wb', buffering=0).write(b'x')"), said="No space left"),
    case(
        "a checkpoint of torch's on a full disk",
        "STORAGE",
        with_torch(on_rank_1("torch.save(torch.ones(1 << 20), '/dev/full')")),
    ),
]

CHECKPOINTER: Final = """
import relight
def checkpointer(url, width=4):
    model = torch.nn.Linear(width, 1)
    return relight.Checkpointer(url, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
"""

STORAGE: Final[list[Case]] = [
    case(
        "a URL that nothing serves",
        "BAD_CONFIG",
        with_gloo(f"{CHECKPOINTER}\ncheckpointer('nosuch://bucket/run').restore()"),
        first=None,
        code=ExitCode.BAD_CONFIG,
    ),
    case(
        "a storage that is not this run's",
        "BAD_CONFIG",
        with_gloo(f"{CHECKPOINTER}\nopen('FOLDER/run.json', 'w').write('damaged')\ncheckpointer('FOLDER').restore()"),
        first=None,
        code=ExitCode.BAD_CONFIG,
    ),
    case(
        "a storage that cannot be written",
        "STORAGE",
        with_gloo(f"{CHECKPOINTER}\nopen('FOLDER/file', 'w').close()\ncheckpointer('FOLDER/file/run').restore()"),
        first=None,
    ),
    case(
        "a server that does not answer",
        "STORAGE",
        with_gloo(
            f"""
{CHECKPOINTER}
os.environ |= dict(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y")
checkpointer("s3://bucket/run?endpoint_url=http://127.0.0.1:1&region=us-east-1").restore()
"""
        ),
        first=None,
    ),
    case(
        "a state that cannot be saved",
        "BAD_CONFIG",
        with_gloo(
            f"""
{CHECKPOINTER}
class Strange:
    def state_dict(self): return dict(function=print)
    def load_state_dict(self, state): pass
model = torch.nn.Linear(1, 1)
ckpt = relight.Checkpointer("FOLDER/run", model=model, extra=dict(strange=Strange()))
ckpt.restore()
for _ in range(200): ckpt.step()
"""
        ),
        first=None,
        code=ExitCode.BAD_CONFIG,
    ),
]

TASK: Final = "task=relight.tests.faults.failing_task:Failing"

CONFIGURED: Final[list[Case]] = [
    case(
        "a task that is not there",
        "BAD_CONFIG",
        first=None,
        code=ExitCode.BAD_CONFIG,
        overrides=("task=relight.tests.faults.failing_task:Absent",),
    ),
    case(
        "a task's error at a step of rank 1",
        "USER_BUG",
        overrides=(TASK, "task_args={at: loss, rank: 1}"),
        said="rank 1 on HOST, at step 2, attempt 1",
    ),
    case("a task's error in its data", "USER_BUG", first=0, overrides=(TASK, "task_args={at: data, rank: 0}")),
    case(
        "a task's error in its data, in a loader worker",
        "USER_BUG",
        overrides=(TASK, "task_args={at: data, rank: 1}", "data.num_workers=1"),
        said="(in a loader worker)",
    ),
    case("no memory in a task", "OUT_OF_MEMORY", overrides=(TASK, "task_args={at: memory, rank: 1}")),
    case("a task's rank that is killed", "KILLED", overrides=(TASK, "task_args={at: kill, rank: 1}")),
    case(
        "a program that is not there",
        "BAD_CONFIG",
        first=None,
        code=ExitCode.BAD_CONFIG,
        target=("--no-python", "no-such-program"),
        said="no-such-program cannot be run: No such file or directory",
    ),
]
