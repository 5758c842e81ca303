"""A URL says where a run lives, or it is refused with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.storage.backends.open import open_backend
from relight.storage.errors import BadUrl


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("runs/digits", "{cwd}/runs/digits"),
        ("/abs/run", "/abs/run"),
        ("~/run", "{home}/run"),
        ("file:///abs/run", "/abs/run"),
        ("file://localhost/abs/run", "/abs/run"),
        ("file://runs/digits", "{cwd}/runs/digits"),
        ("file:///with%20space", "/with space"),
        ("with?query#and:colon", "{cwd}/with?query#and:colon"),
    ],
)
def test_a_local_place_is_opened(url: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_backend(url).url == place.format(cwd=tmp_path, home=Path.home())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "storage.url is empty; name a folder, for example runs/my-run"),
        (" ", "storage.url is empty; name a folder, for example runs/my-run"),
        (
            "gopher://host/x",
            "gopher:// is not a kind of storage that is served; use a local path, s3:// or what else fsspec opens",
        ),
        ("s3:/bucket/run", "a slash is missing in storage.url: s3:// takes two"),
        ("a\0b", "storage.url 'a\\x00b' contains a NUL character, which no path can"),
        ("~nobody-here/x", "storage.url ~nobody-here/x names the home of a user that does not exist"),
    ],
)
def test_what_cannot_be_a_place_is_refused(url: str, text: str) -> None:
    with pytest.raises(BadUrl) as refused:
        open_backend(url)
    assert str(refused.value) == text
