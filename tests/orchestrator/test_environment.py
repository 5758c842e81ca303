"""What every worker finds in its environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relight.orchestrator.environment import Job, Place, omp_threads, worker_environment
from relight.orchestrator.errors import UsageError

PLACE = Place(
    group_rank=1,
    group_world_size=2,
    first_rank=4,
    world_size=8,
    local_world_size=4,
    master_addr="head",
    master_port=4711,
    attempt=3,
    incarnation="cafe",
)


def test_everything_that_torchrun_sets_and_our_own() -> None:
    job = Job(run_id="job", role="trainer", max_restarts=5, config="{}")
    assert worker_environment(PLACE, 2, job, Path("/run"), {}) == {
        "LOCAL_RANK": "2",
        "RANK": "6",
        "GROUP_RANK": "1",
        "ROLE_RANK": "6",
        "ROLE_NAME": "trainer",
        "LOCAL_WORLD_SIZE": "4",
        "WORLD_SIZE": "8",
        "GROUP_WORLD_SIZE": "2",
        "ROLE_WORLD_SIZE": "8",
        "MASTER_ADDR": "head",
        "MASTER_PORT": "4711",
        "TORCHELASTIC_RESTART_COUNT": "2",
        "TORCHELASTIC_MAX_RESTARTS": "5",
        "TORCHELASTIC_RUN_ID": "job",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "TORCHELASTIC_ERROR_FILE": "/run/error-00006.json",
        "RELIGHT_INCARNATION": "cafe",
        "RELIGHT_ATTEMPT": "3",
        "RELIGHT_RUN_DIR": "/run",
        "RELIGHT_CONFIG": "{}",
    }


def test_a_script_has_no_config_and_keeps_the_users_nccl_setting() -> None:
    variables = worker_environment(PLACE, 0, Job(), Path("/run"), {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "3"})
    assert "RELIGHT_CONFIG" not in variables
    assert variables["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "3"


@pytest.mark.parametrize(
    ("inherited", "expected"),
    [
        ({}, {"CUDA_VISIBLE_DEVICES": "2"}),
        ({"CUDA_VISIBLE_DEVICES": "4, 5, 6"}, {"CUDA_VISIBLE_DEVICES": "6"}),
        (
            {"HIP_VISIBLE_DEVICES": "7,8,9", "CUDA_VISIBLE_DEVICES": "1"},
            {"HIP_VISIBLE_DEVICES": "9", "CUDA_VISIBLE_DEVICES": "9"},
        ),
    ],
)
def test_virtual_local_rank_shows_each_worker_its_own_gpu(inherited: dict[str, str], expected: dict[str, str]) -> None:
    variables = worker_environment(PLACE, 2, Job(virtual_local_rank=True), Path("/run"), inherited)
    assert variables.items() >= ({"LOCAL_RANK": "0", "RANK": "6"} | expected).items()


def test_virtual_local_rank_needs_a_gpu_for_each() -> None:
    with pytest.raises(UsageError) as caught:
        worker_environment(PLACE, 2, Job(virtual_local_rank=True), Path("/run"), {"CUDA_VISIBLE_DEVICES": "0,1"})
    assert str(caught.value) == "--virtual-local-rank: there is no GPU for local rank 2 in CUDA_VISIBLE_DEVICES=0,1"


@pytest.mark.parametrize(
    ("processes", "inherited", "added"),
    [(1, {}, {}), (2, {}, {"OMP_NUM_THREADS": "1"}), (2, {"OMP_NUM_THREADS": "8"}, {})],
)
def test_openmp_follows_torchruns_rule(processes: int, inherited: dict[str, str], added: dict[str, str]) -> None:
    assert omp_threads(processes, inherited) == added


def test_gloo_is_told_by_which_interface_the_other_hosts_come_where_there_are_others() -> None:
    known = replace(PLACE, interface="eth1")
    assert worker_environment(known, 0, Job(), Path("/run"), {})["GLOO_SOCKET_IFNAME"] == "eth1"
    assert "GLOO_SOCKET_IFNAME" not in worker_environment(known, 0, Job(), Path("/run"), {"GLOO_SOCKET_IFNAME": "x"})
    alone = replace(known, group_world_size=1)
    assert "GLOO_SOCKET_IFNAME" not in worker_environment(alone, 0, Job(), Path("/run"), {})
