"""What cannot be saved, or does not fit, is refused by name on all ranks alike, before anything is applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.tests.workers.ranks import play

SCENES = "relight.tests.workers.checkpoint.unfit"


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    first, second = play(f"{SCENES}:every", 2, tmp_path_factory.mktemp("unfit"))
    assert first == second
    refused: dict[str, str] = first
    return refused


@pytest.mark.parametrize(
    ("case", "refusal"),
    [
        (
            "a sum that is pending",
            (
                "NotCaptured: sum/value is a DTensor whose ranks hold terms of a sum (Partial): "
                "redistribute it before it is saved"
            ),
        ),
        (
            "a state sharded in its own way",
            (
                "NotCaptured: optimizer/state/weight/row has shape [4] and is sharded, unlike its parameter: it could "
                "not be brought back. Use an optimizer whose state has its parameters' shapes, or does not shard it"
            ),
        ),
        (
            "stages of a pipeline",
            (
                "NotCaptured: the models of rank 0 and rank 1 differ in bias [4] torch.float32; bias [5] "
                "torch.float32; weight [4, 4] torch.float32 and 1 more. Every rank has to have all tensors, "
                "replicated (DDP) or as its shard (FSDP, tensor parallel): stages of a pipeline cannot be saved so far"
            ),
        ),
        (
            "flattened parameters",
            (
                "NotCaptured: the model is wrapped in FullyShardedDataParallel, which flattens its parameters: "
                "use torch.distributed.fsdp.fully_shard, its successor"
            ),
        ),
    ],
)
def test_what_cannot_be_saved_is_refused_by_name(refusals: dict[str, str], case: str, refusal: str) -> None:
    assert refusals[case] == refusal


def test_what_does_not_fit_on_one_rank_is_applied_on_none(tmp_path: Path) -> None:
    for refusal in play(f"{SCENES}:one_rank_s_own", 2, tmp_path):
        assert refusal.startswith("StateMismatch: ")
        assert "another: given here, but not in the checkpoint" in refusal
