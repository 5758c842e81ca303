"""What of a source goes where, by names and shapes alone; and what to write when something does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relight.workers.checkpoint.warmstart.advice import covering, likely_prefix
from relight.workers.checkpoint.warmstart.comparing import Comparison, Wanting, compare
from relight.workers.checkpoint.warmstart.naming import above
from relight.workers.checkpoint.warmstart.settings import InitFrom
from relight.workers.checkpoint.warmstart.tensors import Described
from relight.workers.errors import BadWeights, StateMismatch

MODEL = {"conv.weight": (8, 3), "norm.weight": (8,), "norm.count": (), "fc.weight": (10, 8), "fc.bias": (10,)}
LARGER_HEAD = {**MODEL, "fc.weight": (1000, 8), "fc.bias": (1000,)}


def _described(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, Described]:
    return {name: Described(dtype, shape) for name, shape in shapes.items()}


def _compare(
    source: Mapping[str, tuple[int, ...]], model: Mapping[str, tuple[int, ...]] = MODEL, **settings: Any
) -> Comparison:
    return compare(_described(source), Wanting(_described(model)), InitFrom("a.pt", **settings), "a.pt")


def _refusal(*arguments: Any, **settings: Any) -> str:
    with pytest.raises((StateMismatch, BadWeights)) as caught:
        _compare(*arguments, **settings)
    return str(caught.value)


def test_the_same_names_and_shapes_are_loaded_whole() -> None:
    done = _compare(MODEL)
    assert done == Comparison(pairs=tuple((name, name) for name in MODEL))


def test_a_head_of_another_size_is_refused_with_the_line_that_leaves_it_out() -> None:
    assert _refusal(LARGER_HEAD) == (
        "a.pt does not fit this model; nothing was loaded:\n"
        "  fc.weight: shape [1000, 8] in the source, [10, 8] here\n"
        "  fc.bias: shape [1000] in the source, [10] here\n"
        "To load the others and leave this out, under init_from:\n"
        '  exclude: ["fc"]'
    )


def test_that_line_is_all_that_is_needed() -> None:
    done = _compare(LARGER_HEAD, exclude=["fc"])
    assert done.kept == done.left == ("fc.weight", "fc.bias")
    assert [name for name, _ in done.pairs] == ["conv.weight", "norm.weight", "norm.count"]


def test_the_line_goes_on_from_what_was_excluded_before() -> None:
    assert 'exclude: ["norm.*", "fc"]' in _refusal(LARGER_HEAD, exclude=["norm.*"])


def test_a_wrong_shape_is_refused_even_where_strictness_is_not_asked_for() -> None:
    assert "shape [1000, 8] in the source" in _refusal(LARGER_HEAD, strict=False)
    assert "strict: false" not in _refusal(LARGER_HEAD, strict=False)


def test_what_is_missing_and_what_is_unexpected_is_named_with_both_ways_out() -> None:
    source = {name: shape for name, shape in MODEL.items() if not name.startswith("fc.")} | {"head.weight": (4, 8)}
    assert _refusal(source) == (
        "a.pt does not fit this model; nothing was loaded:\n"
        "  fc.weight: in the model, not in the source\n"
        "  fc.bias: in the model, not in the source\n"
        "  head.weight: in the source, not in the model\n"
        "To load the others and leave these out, under init_from:\n"
        '  exclude: ["fc", "head"]\n'
        "To load whatever has a name here, under init_from:\n"
        "  strict: false"
    )


@pytest.mark.parametrize("settings", [{"strict": False}, {"exclude": ["fc", "head"]}])
def test_each_way_out_leads_out(settings: dict[str, Any]) -> None:
    source = {name: shape for name, shape in MODEL.items() if not name.startswith("fc.")} | {"head.weight": (4, 8)}
    done = _compare(source, **settings)
    assert (*done.missing, *done.kept) == ("fc.weight", "fc.bias")
    assert (*done.unexpected, *done.left) == ("head.weight",)


def test_weights_of_another_model_are_refused_whatever_is_allowed() -> None:
    refusal = _refusal({"a": (1,), "b": (2,)}, strict=False)
    assert "conv.weight: in the model, not in the source" in refusal
    assert "It is of another model, or its names are others: see rename" in refusal


def test_long_lists_are_cut_short() -> None:
    refusal = _refusal({f"layer{number}.weight": (1,) for number in range(30)}, MODEL)
    assert len(refusal.splitlines()) == 13
    assert "... and 25 more" in refusal


def test_a_prefix_too_many_is_seen_and_the_pair_for_it_is_spelled_out() -> None:
    source = {f"model.{name}": shape for name, shape in MODEL.items()}
    assert 'The names differ by a prefix. Under init_from:\n  rename: {"model.": ""}' in _refusal(source)
    assert len(_compare(source, rename={"model.": ""}).pairs) == len(MODEL)


def test_a_prefix_too_few_is_seen_too() -> None:
    model = {f"backbone.{name}": shape for name, shape in MODEL.items()} | {"head.weight": (3, 3)}
    assert 'rename: {"": "backbone."}' in _refusal(MODEL, model)
    assert len(_compare(MODEL, model, rename={"": "backbone."}, exclude=["head"]).pairs) == len(MODEL)


def test_pairs_apply_one_after_the_other_and_patterns_mean_the_models_names() -> None:
    source = {"bert.norm.gamma": (8,), "bert.fc.weight": (1000, 8)}
    pairs = {"bert.": "", r"^(.*)\.gamma$": r"\1.weight"}
    done = _compare(source, rename=pairs, include=["norm.weight"])
    assert done.pairs == (("bert.norm.gamma", "norm.weight"),)
    assert done.left == ("fc.weight",)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_wrappers_put_before_names_is_taken_off_and_said(prefix: str) -> None:
    done = _compare({f"{prefix}{name}": shape for name, shape in MODEL.items()})
    assert done.pairs == tuple((f"{prefix}{name}", name) for name in MODEL)
    assert done.unwrapped


def test_what_a_wrapper_put_inside_a_name_is_taken_off_too() -> None:
    done = _compare({name.replace("fc.", "fc._orig_mod."): shape for name, shape in MODEL.items()})
    assert ("fc._orig_mod.weight", "fc.weight") in done.pairs


def test_a_model_that_has_a_module_of_that_name_keeps_it() -> None:
    model = {f"module.{name}": shape for name, shape in MODEL.items()}
    assert not _compare(model, model).unwrapped


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"exclude": ["cf"]}, "init_from.exclude: 'cf' matches no name of the model, nor one in the source."),
        ({"exclude": ["covn"]}, "Did you mean conv? They begin with: conv, norm, fc"),
        ({"include": ["fc.weigth"]}, "init_from.include: 'fc.weigth' matches no name of the model"),
        ({"rename": {"backbone.": ""}}, "init_from.rename: 'backbone.' matches no name in the source."),
        ({"exclude": ["^("]}, "init_from.exclude: expected a regular expression, as it begins with ^"),
        ({"rename": {"^a": r"\1"}}, "init_from.rename: expected a replacement for ^a"),
        ({"exclude": ["*"]}, "include and exclude leave nothing to load"),
        ({"rename": {"^.*$": "fc.weight"}}, "conv.weight and norm.weight of the source would both be fc.weight"),
    ],
)
def test_a_slip_in_a_pattern_is_an_error(settings: dict[str, Any], refusal: str) -> None:
    assert refusal in _refusal(MODEL, **settings)


def test_a_file_without_tensors_is_refused() -> None:
    assert _refusal({}) == "init_from: there are no tensors in a.pt"


def test_a_pattern_may_mean_what_only_the_source_has() -> None:
    assert _compare({**MODEL, "aux.weight": (1,)}, exclude=["aux"]).left == ("aux.weight",)


@pytest.mark.parametrize(
    ("theirs", "ours", "fits"),
    [
        (torch.float16, torch.float32, True),
        (torch.float32, torch.bfloat16, True),
        (torch.int64, torch.int32, True),
        (torch.float32, torch.int64, False),
        (torch.complex64, torch.float32, False),
        (torch.int64, torch.bool, False),
    ],
)
def test_numbers_are_converted_to_numbers_of_their_kind(theirs: torch.dtype, ours: torch.dtype, fits: bool) -> None:  # noqa: FBT001
    source, model = _described(MODEL, theirs), Wanting(_described(MODEL, ours))
    if fits:
        assert compare(source, model, InitFrom("a.pt"), "a.pt").converted == tuple(MODEL)
        return
    with pytest.raises(StateMismatch) as caught:
        compare(source, model, InitFrom("a.pt"), "a.pt")
    said = f"{str(theirs)[6:]} in the source, {str(ours)[6:]} here, which it cannot be converted to"
    assert f"conv.weight: {said}" in str(caught.value)


def test_one_of_a_tied_tensors_names_is_enough() -> None:
    model = Wanting(_described({"embed": (5, 3), "head": (5, 3)}), tied={"embed": "embed", "head": "embed"})
    for name in model.tensors:
        done = compare(_described({name: (5, 3)}), model, InitFrom("a.pt"), "a.pt")
        assert done.pairs == ((name, name),)
        assert not done.missing


def test_a_count_that_older_files_lack_is_missed_without_complaint() -> None:
    source = {name: shape for name, shape in MODEL.items() if name != "norm.count"}
    model = Wanting(_described(MODEL), optional=frozenset({"norm.count"}))
    assert compare(_described(source), model, InitFrom("a.pt"), "a.pt").missing == ("norm.count",)


NAMES = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "0"]), min_size=1, max_size=4).map(".".join), min_size=1, unique=True
)


@given(names=NAMES, taken=st.data())
def test_what_is_advised_to_leave_out_is_exactly_what_does_not_fit(names: list[str], taken: st.DataObject) -> None:
    tensors = [name for name in names if not any(other != name and name in above(other) for other in names)]
    wrong = taken.draw(st.sets(st.sampled_from(tensors)))
    patterns = covering([name for name in tensors if name in wrong], [name for name in tensors if name not in wrong])
    meant = {name for name in tensors if any(part in patterns for part in above(name))}
    assert meant == wrong
    assert len(patterns) <= len(wrong)


@given(names=NAMES, prefix=st.sampled_from(["model.", "net.backbone.", "x/"]))
def test_a_prefix_is_found_whichever_side_has_it(names: list[str], prefix: str) -> None:
    longer = [prefix + name for name in names]
    there, here = likely_prefix(names, longer), likely_prefix(longer, names)
    assert there is not None
    assert here is not None
    assert json.loads(json.dumps([there, here])) == [{prefix: ""}, {"": prefix}]
