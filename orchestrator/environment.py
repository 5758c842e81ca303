"""Each worker's environment: every variable that torchrun sets, and Relight's own beside them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..configs.failure import ENV_ERROR_FILE
from ..configs.protocol import ENV_ATTEMPT, ENV_CONFIG, ENV_INCARNATION, ENV_RUN_DIR
from .errors import UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """Where this host's workers stand in the world of one attempt.

    `first_rank` is the global rank of local rank 0. All hosts agree on `attempt` (from 1) and `incarnation`.
    `interface` is the network interface by which the others reach this host, where that is known.
    """

    group_rank: int
    group_world_size: int
    first_rank: int
    world_size: int
    local_world_size: int
    master_addr: str
    master_port: int
    attempt: int
    incarnation: str
    interface: str = ""

    @property
    def ranks(self) -> range:
        """The global ranks of this host."""
        return range(self.first_rank, self.first_rank + self.local_world_size)


@dataclass(frozen=True, slots=True)
class Job:
    """What all workers of a run have in common. `config` is the resolved configuration as JSON, if there is one."""

    run_id: str = "none"
    role: str = "default"
    max_restarts: int = 0
    virtual_local_rank: bool = False
    config: str | None = None


def error_file(run_dir: Path, rank: int) -> Path:
    """Where the rank leaves its failure report."""
    return run_dir / f"error-{rank:05d}.json"


def worker_environment(
    place: Place, local_rank: int, job: Job, run_dir: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """What to set for one worker on top of `inherited`, the launcher's own environment."""
    rank = place.first_rank + local_rank
    variables = {
        "LOCAL_RANK": str(local_rank),
        "RANK": str(rank),
        "GROUP_RANK": str(place.group_rank),
        "ROLE_RANK": str(rank),
        "ROLE_NAME": job.role,
        "LOCAL_WORLD_SIZE": str(place.local_world_size),
        "WORLD_SIZE": str(place.world_size),
        "GROUP_WORLD_SIZE": str(place.group_world_size),
        "ROLE_WORLD_SIZE": str(place.world_size),
        "MASTER_ADDR": place.master_addr,
        "MASTER_PORT": str(place.master_port),
        # All hosts must agree on the count: torch prefixes every key in the workers' store with it.
        "TORCHELASTIC_RESTART_COUNT": str(place.attempt - 1),
        "TORCHELASTIC_MAX_RESTARTS": str(job.max_restarts),
        "TORCHELASTIC_RUN_ID": job.run_id,
        "TORCHELASTIC_USE_AGENT_STORE": str(True),
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": inherited.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
        ENV_ERROR_FILE: str(error_file(run_dir, rank)),
        ENV_INCARNATION: place.incarnation,
        ENV_ATTEMPT: str(place.attempt),
        ENV_RUN_DIR: str(run_dir),
    }
    if place.interface and place.group_world_size > 1 and "GLOO_SOCKET_IFNAME" not in inherited:
        # Gloo alone would take the address that the host's name has, which often is the loopback's.
        variables["GLOO_SOCKET_IFNAME"] = place.interface
    if job.config is not None:
        variables[ENV_CONFIG] = job.config
    if job.virtual_local_rank:
        variables |= _one_visible_device(local_rank, inherited)
    return variables


def _one_visible_device(local_rank: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """`--virtual-local-rank`: every worker is local rank 0 and sees its own GPU alone."""
    source = "HIP_VISIBLE_DEVICES" if inherited.get("HIP_VISIBLE_DEVICES") else "CUDA_VISIBLE_DEVICES"
    visible = inherited.get(source)
    if visible is None:
        return {"LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": str(local_rank)}
    devices = visible.split(",")
    if local_rank >= len(devices):
        message = f"--virtual-local-rank: there is no GPU for local rank {local_rank} in {source}={visible}"
        raise UsageError(message)
    device = devices[local_rank].strip()
    return {"LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": device, source: device}


def omp_threads(processes: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """torchrun's rule: one OpenMP thread each when several workers share a host and the user said nothing."""
    if processes > 1 and "OMP_NUM_THREADS" not in inherited:
        return {"OMP_NUM_THREADS": "1"}
    return {}
