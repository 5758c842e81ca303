"""One task under every `parallel`, on real ranks: the same training, each with its share of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from relight.configs.parallel import ParallelConfig
from relight.tests.workers.ranks import play
from relight.tests.workers.wrapping_scenes import SEED, digest, modes, train
from relight.tests.workers.wrapping_tasks import Network, Toy, points
from relight.workers.parallel import World
from relight.workers.wrapping.build import build, settle

MODES = list(modes(4))
SHARDED = MODES[1:]
TOLERANCE = 2e-6
"""Of a loss around 1, after six steps of AdamW in float32."""
SCENES = "relight.tests.workers.wrapping_scenes"
Answers = list[dict[str, Any]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Every rank's answers to every scene."""
    return play(f"{SCENES}:all_scenes", 4, tmp_path_factory.mktemp("wrapping"))


@pytest.fixture(scope="module")
def alone() -> list[float]:
    """The losses of a single process with the whole model and every batch."""
    torch.manual_seed(SEED)
    task = Toy()
    return train(task, build(task, World(), ParallelConfig()), World(), epochs=2)


def told(answers: Answers, scene: str, mode: str) -> Any:
    """The answer of all ranks, which is one."""
    first, *others = [answer[scene][mode] for answer in answers]
    assert all(other == first for other in others)
    return first


@pytest.mark.parametrize("mode", MODES)
def test_losses_are_those_of_one_process_with_the_same_global_batches(
    answers: Answers, alone: list[float], mode: str
) -> None:
    losses = told(answers, "training", mode)
    assert losses == pytest.approx(alone, rel=TOLERANCE)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("ranks", [1, 2])
def test_on_one_and_two_ranks_too_and_cut_over_all_of_them(tmp_path: Path, alone: list[float], ranks: int) -> None:
    for answer in play(f"{SCENES}:all_losses", ranks, tmp_path):
        for mode, losses in answer.items():
            assert losses == pytest.approx(alone, rel=TOLERANCE), mode


@pytest.mark.parametrize("mode", MODES)
def test_metrics_count_every_sample_once_though_shares_are_uneven_or_empty(answers: Answers, mode: str) -> None:
    torch.manual_seed(SEED)
    task = Toy()
    model = task.model()
    with torch.no_grad():
        whole = {str(count): float(task.metrics(model, points(count)[:])["loss"].mean()) for count in (13, 9, 1)}
    assert answers[0]["measuring"][mode]["metrics"] == pytest.approx(whole, rel=TOLERANCE)
    assert all(answer["measuring"][mode]["metrics"] == answers[0]["measuring"][mode]["metrics"] for answer in answers)


@pytest.mark.parametrize("mode", MODES)
def test_an_evaluation_leaves_the_training_as_it_was(answers: Answers, mode: str) -> None:
    undisturbed = told(answers, "training", mode)
    assert answers[0]["measuring"][mode]["losses after"] == undisturbed[: len(undisturbed) // 2]


@pytest.mark.parametrize("mode", MODES)
def test_all_start_with_rank_zeros_weights(answers: Answers, mode: str) -> None:
    torch.manual_seed(SEED)
    assert told(answers, "starting", mode) == digest(Network(0.0))


@pytest.mark.parametrize("mode", SHARDED)
def test_what_is_made_on_the_meta_device_depends_on_the_seed_alone(answers: Answers, mode: str) -> None:
    torch.manual_seed(SEED)
    model = Network(0.0)
    torch.manual_seed(SEED)
    for name, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            Toy().initialize(name, module)
    assert told(answers, "blank", mode) == digest(model)


@pytest.mark.parametrize(("mode", "copies"), [("fsdp", 1), ("hsdp", 2), ("tp+fsdp", 1)])
def test_each_rank_holds_its_share_at_all_times_also_after_an_evaluation(
    answers: Answers, mode: str, copies: int
) -> None:
    held = [answer["measuring"][mode]["held"] for answer in answers]
    assert all(len(set(counts)) == 1 for counts in held)
    network = Network(0.0)
    whole = sum(parameter.numel() for parameter in network.parameters())
    named = sum(parameter.numel() for name, parameter in network.named_parameters() if ".up." in name)
    named += sum(parameter.numel() for name, parameter in network.named_parameters() if ".down.weight" in name)
    # What the plan does not name is there twice in a group of two; the padding of uneven shards counts for nothing.
    expected = 2 * whole - named if mode == "tp+fsdp" else copies * whole
    assert sum(counts[0] for counts in held) == expected


@pytest.mark.parametrize("mode", ["fsdp", "hsdp"])
def test_every_step_begins_with_rank_zeros_buffers_as_under_ddp(answers: Answers, mode: str) -> None:
    for answer in answers:
        assert answer["statistics"][mode] == pytest.approx(answer["statistics"]["ddp"], rel=TOLERANCE)
    assert answers[0]["statistics"][mode] != answers[1]["statistics"][mode]


@pytest.mark.parametrize("mode", MODES)
def test_steps_after_a_restart_are_bit_identical_to_the_undisturbed_run(answers: Answers, mode: str) -> None:
    """On all ranks: what a tensor-parallel group replicates stays alike in it, whatever dropout draws."""
    weights = told(answers, "repeating", mode)
    assert weights["restarted"] == weights["undisturbed"]


@pytest.mark.parametrize("mode", ["ddp", "fsdp", "hsdp"])
def test_bfloat16_is_what_is_computed_in_and_float32_what_is_kept(answers: Answers, mode: str) -> None:
    narrow = told(answers, "narrow", mode)
    assert narrow["computed"] == "torch.bfloat16"
    assert (narrow["answered"], narrow["kept"]) == ("torch.float32", ["torch.float32"])
    assert narrow["losses"] == pytest.approx(told(answers, "narrow", "ddp")["losses"], rel=0.02)


def test_a_tensor_parallel_group_goes_on_with_the_random_numbers_of_its_first_rank(answers: Answers) -> None:
    own, shared = ([answer["sharing"][when] for answer in answers] for when in ("own", "shared"))
    assert len({tuple(drawn) for drawn in own}) == len(answers)
    assert shared == [own[0], own[0], own[2], own[2]]


def test_groups_fit_the_smallest_host(answers: Answers) -> None:
    """Where one of them has a single rank, nothing is shared between two."""
    assert all(answer["fewest"] == [1, len(answers)] for answer in answers)


TIED = (
    "BadTask: mix.weight and again.weight are one tensor and would become two: give all of its modules to the same one "
    "of blocks(), or to none, and leave them out of tensor_plan()"
)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("Parted", TIED),
        ("CutAndParted", TIED),
        (
            "Misnamed",
            (
                "BadTask: tensor_plan() names 'layers.*.up', and the model has no such module; its parts are called "
                "into, blocks, mix, again, out"
            ),
        ),
        (
            "Planless",
            (
                "BadTask: parallel: tp+fsdp needs to know how layers are cut, and Planless does not define "
                "tensor_plan(). Define it, or use parallel=fsdp"
            ),
        ),
        (
            "Forgetful",
            (
                "BadTask: parallel.meta: blocks.0.norm.weight was given no values. Set them in its module's "
                "reset_parameters(), or override the task's initialize(); or set parallel.meta=false"
            ),
        ),
        (
            "Unable",
            (
                "BadTask: parallel.meta: 1 has parameters or buffers, and no reset_parameters() to set them. "
                "Define it, override Unable.initialize(), or set parallel.meta=false"
            ),
        ),
    ],
)
def test_a_task_that_does_not_fit_is_refused(answers: Answers, task: str, message: str) -> None:
    assert all(answer["refusals"][task] == message for answer in answers)


def test_without_a_process_group_every_mode_is_the_model_itself() -> None:
    for parallel in modes(1).values():
        world = settle(World(), parallel, 1)
        model = build(Toy(), world, parallel)
        assert type(model) is Network
        assert all(type(parameter) is nn.Parameter for parameter in model.parameters())
