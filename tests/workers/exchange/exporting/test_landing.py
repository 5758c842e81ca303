"""An export appears whole or not at all, and replaces nothing that it should not."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from relight.workers.errors import NotExported
from relight.workers.exchange.exporting.landing import check_free, landing_file, landing_folder

Landing = Callable[..., AbstractContextManager[Path]]


def _land(landing: Landing, path: Path, meanwhile: Callable[[], object]) -> None:
    with landing(path, overwrite=False) as beside:
        (beside / "part" if beside.is_dir() else beside).write_text("half")
        meanwhile()


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text("before")
    return path


def test_a_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    with landing_file(tmp_path / "out", overwrite=False) as beside:
        beside.write_text("content")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "content"


def test_a_folder_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    with landing_folder(tmp_path / "out", overwrite=False) as beside:
        (beside / "model.safetensors").write_text("content")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "model.safetensors").read_text() == "content"


@pytest.mark.parametrize("landing", [landing_file, landing_folder])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_one_that_was_stopped(tmp_path: Path, landing: Landing, stop: type[BaseException]) -> None:
    def meanwhile() -> None:
        raise stop

    with pytest.raises(stop):
        _land(landing, tmp_path / "out", meanwhile)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def meanwhile() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NotExported) as caught:
        _land(landing_file, tmp_path / "out", meanwhile)
    assert str(caught.value) == f"cannot write {tmp_path}/out: No space left on device. Nothing was left there"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("landing", [landing_file, landing_folder])
def test_what_comes_there_meanwhile_stays(tmp_path: Path, landing: Landing) -> None:
    with pytest.raises(NotExported) as caught:
        _land(landing, tmp_path / "out", lambda: (tmp_path / "out").write_text("theirs"))
    assert str(caught.value) == f"{tmp_path}/out has come to be meanwhile: it is not replaced"
    assert (tmp_path / "out").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_or_an_exported_folder_is_replaced_when_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    with landing_file(check_free(str(tmp_path / "file"), overwrite=True, is_folder=False), overwrite=True) as beside:
        beside.write_text("after")
    _folder(tmp_path / "folder", ".metadata", "__0_0.distcp")
    path = check_free(str(tmp_path / "folder"), overwrite=True, is_folder=True)
    with landing_folder(path, overwrite=True) as beside:
        (beside / ".metadata").write_text("after")
    assert (tmp_path / "file").read_text() == "after"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == [".metadata"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_place_that_cannot_be_used_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _folder(tmp_path / "home", "thesis.tex", "model.safetensors")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    expected = {
        (f"{tmp_path}/file", False, False): "file exists already. Choose another name, or replace it with --overwrite",
        (f"{tmp_path}/file", True, True): "file is a file, which this export does not replace",
        (f"{tmp_path}/home", True, False): "home is a folder, which this export does not replace",
        (f"{tmp_path}/home", True, True): "home holds what is no export (thesis.tex): it is not replaced",
        (f"{tmp_path}/link", True, False): "link is a link, which this export does not replace",
        (f"{tmp_path}/none/out", False, False): "there is no folder",
        ("s3://bucket/out", False, False): "an export goes to a local path, and s3://bucket/out is a URL",
    }
    for (out, overwrite, is_folder), said in expected.items():
        with pytest.raises(NotExported) as caught:
            check_free(out, overwrite=overwrite, is_folder=is_folder)
        assert said in str(caught.value)
