"""A network of hosts, and the run that every disturbed one is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from relight.tests.hosts.network import Network, network
from relight.tests.hosts.spread import Spread


@pytest.fixture
def hosts() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Spread:
    """Two ranks on one host."""
    run = Spread(tmp_path_factory.mktemp("undisturbed"))
    run.hurry()
    assert run.finish() == 0, run.text
    return run


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """A figure, on the terminal whatever pytest captures."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}")

    return tell
