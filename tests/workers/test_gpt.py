"""The GPT's data and model; that it learns, and ends the same after kills, is shown end to end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import default_collate

from relight.configs.schema import TrainConfig
from relight.tests.workers.ranks import play
from relight.workers.errors import BadTask
from relight.workers.task import load_task
from relight.workers.tasks.gpt import GPT, printable, warm_cosine
from relight.workers.tasks.library import Windows, library_text
from relight.workers.tasks.transformer import Shape, Transformer, write

TRAIN = TrainConfig(lr=0.001)
TINY = Shape(context=16, layers=2, heads=2, width=16)


# --- the text ---


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """40 modules, and what stands beside a library."""
    for number in range(40):
        (tmp_path / f"m{number:02d}.py").write_text(f"{number}\n")
    strangers = ("site-packages/a.py", "dist-packages/a.py", "test/a.py", "m/tests/a.py", "m/idle_test/a.py")
    of_the_build = ("_sysconfigdata__linux_.py", "config-3.11-linux/a.py", "sitecustomize.py", "m/a.txt")
    for name in (*strangers, *of_the_build):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("stranger\n")
    (tmp_path / "m" / "below.py").write_text("below\n")
    return tmp_path


def test_the_splits_are_all_of_the_library_in_the_order_of_names_and_share_nothing(library: Path) -> None:
    train, validation = (library_text(validation=held_out, root=library).split() for held_out in (False, True))
    assert validation == [b"below", b"15", b"31"]
    assert train == [str(number).encode() for number in range(40) if number not in {15, 31}]


def test_a_limit_cuts_the_text_off(library: Path) -> None:
    whole = library_text(validation=False, root=library)
    assert library_text(validation=False, root=library, max_bytes=7) == whole[:7]
    assert library_text(validation=False, root=library, max_bytes=10**9) == whole


def test_this_pythons_library_is_megabytes_of_python(tmp_path: Path) -> None:
    train, validation = library_text(validation=False), library_text(validation=True)
    assert len(train) > 5_000_000
    assert 0.02 < len(validation) / len(train) < 0.2
    assert b"def dataclass(" in train + validation
    assert b"import torch" not in train
    assert library_text(validation=True) == validation


def test_without_a_library_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadTask) as caught:
        library_text(validation=False, root=tmp_path)
    assert str(caught.value) == (
        f"there is no source text in {tmp_path}: this Python comes without its standard library's .py files"
    )


def test_windows_foretell_every_byte_once_and_leave_out_what_fills_none() -> None:
    windows = Windows(bytes(range(11)), context=3)
    assert [window.tolist() for window in _all(windows)] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert [len(Windows(bytes(size), context=3)) for size in (0, 1, 3, 4, 6, 7)] == [0, 0, 0, 1, 1, 2]


def _all(windows: Windows) -> Iterator[torch.Tensor]:
    return (windows[index] for index in range(len(windows)))


# --- the model ---


def test_it_has_about_ten_million_parameters_and_one_matrix_for_reading_and_writing() -> None:
    model = GPT(TRAIN).model()
    assert isinstance(model, Transformer)
    assert 10e6 < sum(parameter.numel() for parameter in model.parameters()) < 11e6
    assert model.head.weight is model.embedding.weight


def test_a_fresh_model_knows_nothing() -> None:
    torch.manual_seed(0)
    task = GPT(TRAIN, context=16, layers=2, heads=2, width=32)
    batch = torch.randint(256, (8, 17), dtype=torch.uint8)
    assert task.loss(task.model(), batch).item() == pytest.approx(math.log(256), abs=0.1)


def test_no_byte_is_foretold_from_those_that_follow_it() -> None:
    model = Transformer(TINY).eval()
    text = torch.randint(256, (1, 16))
    changed = text.clone()
    changed[0, 9] += 1
    before, after = model(text), model(changed % 256)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


def test_the_order_of_the_bytes_counts() -> None:
    """One layer, for a second one would tell it from what each byte was allowed to look at."""
    model = Transformer(Shape(context=16, layers=1, heads=2, width=16)).eval()
    for parameter in model.parameters():
        parameter.data *= 10
    assert not torch.allclose(model(torch.tensor([[1, 2, 3]]))[0, -1], model(torch.tensor([[2, 1, 3]]))[0, -1])


def test_dropout_is_drawn_in_training_alone() -> None:
    model = Transformer(Shape(context=16, layers=2, heads=2, width=16, dropout=0.5))
    text = torch.randint(256, (1, 16))
    assert not torch.equal(model(text), model(text))
    model.eval()
    assert torch.equal(model(text), model(text))


def test_sharded_and_cut_it_is_the_same_model(tmp_path: Path) -> None:
    for answer in play("relight.tests.workers.gpt_scenes:spread", 2, tmp_path):
        whole = answer.pop("whole")
        assert set(answer) == {"fsdp", "fsdp on meta", "tp+fsdp"}
        for told in answer.values():
            assert told["tied"]
            assert told["loss"] == pytest.approx(whole["loss"], rel=1e-5)
            assert told["gradient"] == pytest.approx(whole["gradient"], rel=1e-4)
            assert told["text"] == whole["text"]


# --- the task ---


def test_it_trains_and_measures() -> None:
    task = load_task(
        "relight.workers.tasks.gpt:GPT", TRAIN, {"context": 16, "layers": 1, "width": 24, "val_windows": 5}
    )
    assert isinstance(task, GPT)
    data = task.val_data()
    batch = default_collate([data[index] for index in range(5)])
    model = task.model()
    optimizer = task.optimizer(model)
    task.loss(model, batch).backward()
    optimizer.step()
    values = task.metrics(model.eval(), batch)
    assert {name: tuple(value.shape) for name, value in values.items()} == {"loss": (5,), "bits_per_byte": (5,)}
    assert values["loss"].mean().item() == pytest.approx(task.loss(model, batch).item())
    assert torch.allclose(values["bits_per_byte"] * math.log(2), values["loss"])


def test_validation_is_spread_over_all_that_is_held_out() -> None:
    few, all_of_it = (GPT(TRAIN, context=64, val_windows=count).val_data() for count in (3, None))
    total = len(Windows(library_text(validation=True), 64))
    assert few.indices == [0, total // 3, 2 * total // 3]  # type: ignore[attr-defined]
    assert all_of_it.indices == list(range(total))  # type: ignore[attr-defined]


def test_matrices_decay_and_gains_do_not() -> None:
    task = GPT(TRAIN, layers=1, width=24)
    model = task.model()
    decaying, others = task.optimizer(model).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {parameter.ndim for parameter in decaying["params"]} == {2}
    assert {parameter.ndim for parameter in others["params"]} == {1}
    assert len(decaying["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_the_rate_rises_and_falls_and_a_finished_run_may_go_on() -> None:
    rates = [warm_cosine(step / 100) for step in range(120)]
    assert 0 < rates[0] < 0.2
    assert rates.index(max(rates)) == 5
    assert rates[100:] == pytest.approx([0.1] * 20)


@pytest.mark.parametrize("shape", [{"width": 30, "heads": 4}, {"width": 12, "heads": 4}, {"width": 8, "heads": 0}])
def test_a_width_that_cannot_be_cut_into_heads_is_refused(shape: dict[str, Any]) -> None:
    with pytest.raises(BadTask) as caught:
        GPT(TRAIN, **shape)
    heads = shape["heads"]
    assert str(caught.value) == (
        f"task_args: a width of {shape['width']} cannot be cut into {heads} heads of an even width. "
        f"Set width to a multiple of {2 * max(heads, 1)}, and context, layers and heads to at least 1"
    )


# --- what it writes ---


def test_a_text_is_drawn_from_its_seed_alone() -> None:
    torch.manual_seed(0)
    model = Transformer(TINY).eval()
    first, again, other = (write(model, b"def ", count=9, context=16, temperature=1, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first.startswith(b"def ")
    assert len(first) == 13


class Counting(nn.Module):
    """Is sure that each byte is followed by the next larger one; it has been shown texts of such lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.certainty = nn.Parameter(torch.tensor(1e6))
        self.lengths: list[int] = []

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.lengths.append(tokens.shape[1])
        return functional.one_hot(tokens + 1, 256).detach() * self.certainty.detach()


def test_it_is_shown_what_was_written_last() -> None:
    model = Counting()
    assert write(model, b"012", count=6, context=5, temperature=1, seed=0) == b"012345678"
    assert model.lengths == [3, 4, 5, 5, 5, 5]


def test_what_is_written_is_fit_for_a_terminal() -> None:
    assert printable(b"def f():\n\treturn '\xc3\xa9'\r\x1b[2J\x00\xff\xc2\x9b") == (
        "def f():\n\treturn 'é'\ufffd\ufffd[2J\ufffd\ufffd\ufffd"
    )


def test_a_sample_is_shown_unless_none_is_wanted() -> None:
    shape = {"context": 16, "layers": 1, "width": 24}
    task, silent = (GPT(TRAIN, sample_bytes=count, prompt="import ", **shape) for count in (5, 0))
    model = task.model().eval()
    said = task.finished(model)
    assert said is not None
    assert said.startswith("a sample:\n\nimport ")
    assert silent.finished(model) is None
