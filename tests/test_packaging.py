"""What is installed: everything that is needed, nothing that is not, at versions that were tested."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parent.parent
ROOMS: Final = ("configs", "storage", "workers", "orchestrator", "verbs")


def _package_files() -> set[str]:
    shipped = [*ROOT.glob("*.py"), ROOT / "py.typed"]
    for room in ROOMS:
        shipped += [path for path in (ROOT / room).rglob("*") if path.suffix in {".py", ".yaml"}]
    return {f"relight/{path.relative_to(ROOT)}" for path in shipped}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built in a copy: building leaves things behind."""
    place = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs", "*.egg-info")
    source = shutil.copytree(ROOT, place / "any-name", ignore=skipped)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", place, source], check=True, capture_output=True)
    return zipfile.ZipFile(next(place.glob("relight-*.whl")))


def test_the_wheel_ships_every_module_and_preset_and_no_tests(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == _package_files()


def test_the_wheel_has_the_command_and_the_license(wheel: zipfile.ZipFile) -> None:
    info = next(name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    assert wheel.read(f"{info}/entry_points.txt").decode() == "[console_scripts]\nrelight = relight.__main__:main\n"
    assert b"Apache License" in wheel.read(f"{info}/licenses/LICENSE")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _needed(name: str, extras: frozenset[str], found: set[str]) -> set[str]:
    """Adds to `found` what `name` needs, and what that needs, on this machine."""
    found.add(_normal(name))
    environments = [{"extra": extra} for extra in extras or {""}]
    for requirement in map(Requirement, distribution(name).requires or []):
        applies = requirement.marker is None or any(map(requirement.marker.evaluate, environments))
        if applies and _normal(requirement.name) not in found:
            _needed(requirement.name, frozenset(requirement.extras), found)
    return found


def test_the_constraints_pin_everything_that_relight_and_its_tests_need() -> None:
    comment, *pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert comment.startswith("#")
    assert not [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", pin)]
    needed = _needed("relight", frozenset({"dev", "examples"}), set()) - {"relight"}
    assert needed <= {pin.partition("==")[0] for pin in pins}
