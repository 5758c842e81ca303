"""The section `init_from`: a source alone or with what is taken of it, and patterns that say what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.configs.errors import ConfigError
from relight.configs.initial import InitFromConfig, is_weights_name, pattern, rewriting
from relight.configs.load import load
from relight.configs.schema import Config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _load(*overrides: str) -> InitFromConfig:
    config = load("digits", list(overrides))
    assert Config.model_validate_json(config.model_dump_json()) == config
    return config.init_from


def test_a_source_alone_needs_no_section() -> None:
    assert _load("init_from=s3://bucket/run@1200") == InitFromConfig(source="s3://bucket/run@1200")


def test_nothing_is_loaded_unless_asked_for() -> None:
    assert _load() == _load("init_from=null") == InitFromConfig()
    assert _load().source is None


@pytest.mark.parametrize(("given", "meant"), [("fc", ("fc",)), ("[fc, 3]", ("fc", "3")), ("7", ("7",)), ("[]", ())])
def test_a_single_pattern_needs_no_brackets_and_a_layers_number_no_quotes(given: str, meant: tuple[str, ...]) -> None:
    assert _load("init_from.source=a.pt", f"init_from.exclude={given}").exclude == meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("weights.pt", "{here}/weights.pt"),
        ("./IMAGENET1K_V1", "{here}/IMAGENET1K_V1"),
        ("runs/a@12", "{here}/runs/a@12"),
        ("gs://bucket/a.pt", "gs://bucket/a.pt"),
        ("IMAGENET1K_V1", "IMAGENET1K_V1"),
        ("resnet18:DEFAULT", "resnet18:DEFAULT"),
        ("ResNet18_Weights.IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1"),
    ],
)
def test_a_file_is_taken_from_the_current_directory_and_a_name_is_no_file(
    tmp_path: Path, given: str, meant: str
) -> None:
    assert _load(f"init_from={given}").source == meant.format(here=tmp_path)


@pytest.mark.parametrize("name", ["weights", "resnet18", "Resnet18.pt", "runs/A", "A", "s3://B"])
def test_what_else_looks_like_a_name_is_none_of_torchvisions(name: str) -> None:
    assert not is_weights_name(name)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init_from=''"], "expected a file, a URL, or the name of torchvision's weights; got ''"),
        (["init_from.exclude=[fc]"], "expected a source beside it, for example init_from: {source: weights.pt, "),
        (["init_from=a.pt", "init_from.only=fc"], "unknown key init_from.only"),
        (["init_from={source: a.pt, exclude: ['^(']}"], "expected a regular expression, as it begins with ^"),
        (["init_from={source: a.pt, exclude: ['']}"], "init_from.exclude.0"),
        (["init_from={source: a.pt, exclude: [true]}"], "expected text; got true"),
        (["init_from={source: a.pt, rename: [a, b]}"], "expected a section of `key: value`"),
        (["init_from={source: a.pt, rename: {'^(': b}}"], "expected a regular expression, as it begins with ^"),
        (["init_from={source: a.pt, rename: {'^a': '\\1'}}"], "expected a replacement for ^a, and it is none"),
        (["init_from={source: a.pt, strict: 1}"], "expected true or false"),
        (["init_from=s3://key:secret@bucket/a.pt"], "expected a URL without a password"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("digits", overrides)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("fc", ["fc", "fc.weight", "fc.0.bias"], ["fc2.weight", "a.fc.weight"]),
        ("fc.*", ["fc.weight", "fc.0.bias"], ["fc", "fc2.weight"]),
        ("layer?.0", ["layer1.0.weight", "layer2.0"], ["layer10.0.weight", "layer1.1.weight"]),
        ("*.bias", ["fc.bias", "a.b.bias"], ["bias", "fc.weight"]),
        ("generator", ["generator/fc.weight"], ["generators/fc.weight"]),
        (r"^layer[34]\.", ["layer3.0.weight", "layer4.x"], ["layer1.0.weight", "a.layer3.x"]),
        ("^fc", ["fc", "fc2.weight"], ["a.fc"]),
    ],
)
def test_a_pattern_means_names_and_what_is_below_them(text: str, matching: list[str], other: list[str]) -> None:
    means = pattern(text)
    assert [name for name in [*matching, *other] if means(name)] == matching


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        ("model.", "", "model.fc.weight", "fc.weight"),
        ("model.", "", "a.model.fc.weight", "a.model.fc.weight"),
        ("m.del.", "", "model.fc", "model.fc"),
        ("", "backbone.", "fc.weight", "backbone.fc.weight"),
        ("encoder", "decoder", "encoder.encoder.weight", "decoder.encoder.weight"),
        (r"^(.*)\.gamma$", r"\1.weight", "norm.gamma", "norm.weight"),
        (r"^blocks\.(\d+)\.", r"layer\1.", "blocks.12.fc", "layer12.fc"),
    ],
)
def test_a_pair_changes_a_prefix_or_what_its_expression_finds(old: str, new: str, before: str, after: str) -> None:
    assert rewriting(old, new)(before) == after
