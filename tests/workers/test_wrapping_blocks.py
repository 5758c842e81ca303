"""Which modules are sharded one by one where a task does not say."""

from __future__ import annotations

from torch import nn

from relight.workers.wrapping.blocks import blocks, innermost_first, shared


class Model(nn.Module):
    """Modules by name."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def names(model: nn.Module) -> list[str]:
    by_module = {module: name for name, module in model.named_modules()}
    return [by_module[block] for block in blocks(model)]


def test_the_entries_of_lists_and_sequentials_wherever_they_are() -> None:
    model = Model(into=nn.Linear(1, 1), body=Model(layers=nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])))
    assert names(model) == ["body.layers.0", "body.layers.1"]


def test_a_model_that_is_a_sequential_itself() -> None:
    assert names(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))) == ["0", "1"]


def test_containers_in_containers_are_looked_into_but_not_blocks() -> None:
    residual = Model(down=nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)))
    model = Model(stages=nn.ModuleList([nn.Sequential(residual, nn.Linear(1, 1)), nn.Linear(1, 1)]))
    assert names(model) == ["stages.0.0", "stages.0.1", "stages.1"]


def test_what_has_no_parameters_is_no_block() -> None:
    assert names(nn.Sequential(nn.ReLU(), nn.Linear(1, 1), nn.Dropout())) == ["1"]


def test_a_block_that_occurs_twice_is_one() -> None:
    again = nn.Linear(1, 1)
    assert names(nn.Sequential(again, nn.ReLU(), again)) == ["0"]


def test_what_shares_a_parameter_with_the_rest_of_the_model_stays_with_it() -> None:
    embedding, head = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
    head.weight = embedding.weight
    model = Model(embedding=embedding, layers=nn.Sequential(nn.Linear(2, 2), head))
    assert names(model) == ["layers.0"]
    assert shared(model, head) == ["weight"]


def test_what_is_shared_within_a_block_is_no_obstacle() -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.weight = one.weight
    assert names(Model(layers=nn.ModuleList([Model(one=one, other=other)]))) == ["layers.0"]


def test_inner_modules_come_before_those_around_them() -> None:
    inner = nn.Linear(1, 1)
    outer = Model(inner=inner)
    model = Model(outer=outer)
    stranger = nn.Linear(1, 1)
    assert innermost_first(model, [model, outer, stranger, inner, outer]) == [inner, outer]
