"""torchvision's VGG16 (528 MB of weights) taken elsewhere: every tensor and every prediction is equal."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import vgg16

from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.storage.verify import verify
from relight.tests.waiting import wait_until
from relight.tests.workers.exchange.exporting.saving import load, save
from relight.workers.exchange.exporting.export import export

RELIGHT = (sys.executable, "-m", "relight")
MAKER = ("--format", "torch", "--model", "torchvision.models:vgg16")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, nn.Module]]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vgg16")
    model: nn.Module = vgg16()
    save(folder / "run", model=model)
    yield folder / "run", model.eval()
    shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path)  # Half a gigabyte a file.


def _equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], it) for name, it in expected.items())


def _predictions(model: nn.Module) -> Any:
    with torch.no_grad():
        return model.eval()(torch.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224))


def _on_a_terminal(*arguments: str) -> tuple[int, str]:
    """The exit code, and what was seen on a terminal of 100 columns."""
    master, slave = pty.openpty()
    environment = dict(os.environ, COLUMNS="100", TERM="xterm")
    with subprocess.Popen([*RELIGHT, *arguments], stdout=slave, stderr=slave, stdin=slave, env=environment) as process:
        os.close(slave)
        seen = bytearray()
        while True:
            try:
                part = os.read(master, 1 << 16)
            except OSError:  # Linux's way to say that nobody is at the other end.
                break
            if not part:
                break
            seen += part
        os.close(master)
    return process.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode(errors="replace"))


def test_the_whole_model_with_a_bar_that_shows_rate_and_time_left(
    trained: tuple[Path, nn.Module], folder: Path
) -> None:
    url, model = trained
    code, seen = _on_a_terminal("export", str(url), str(folder / "vgg16.pt"), *MAKER)
    assert code == 0, seen
    assert re.search(r"export .*/527\.8 MiB [0-9.]+ [MG]i?B/s -?[0-9]:[0-9]{2}:[0-9]{2}", seen), seen
    found = load(folder / "vgg16.pt", weights_only=False, mmap=True)
    assert type(found) is type(model)
    assert _equal(found.state_dict(), model.state_dict())
    assert torch.equal(_predictions(found), _predictions(model))


def test_the_weights_alone_in_both_formats_of_a_checkpoint_that_is_proven(
    trained: tuple[Path, nn.Module], folder: Path
) -> None:
    url, model = trained
    backend = open_backend(str(url))
    assert verify(backend, Catalog(backend).find().manifest) == []
    command = [*RELIGHT, "export", str(url), str(folder / "vgg16.pth"), "--format", "state-dict", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert (facts["format"], facts["step"], facts["tensors"]) == ("state-dict", 1, 32)
    assert facts["bytes"] == (folder / "vgg16.pth").stat().st_size
    found = load(folder / "vgg16.pth", mmap=True)
    assert _equal(found, model.state_dict())
    with torch.device("meta"):
        again: nn.Module = vgg16()
    again.load_state_dict(found, assign=True)
    assert torch.equal(_predictions(again), _predictions(model))
    export(str(url), folder / "vgg16.safetensors", format="safetensors")
    assert _equal(load_file(folder / "vgg16.safetensors"), model.state_dict())


@pytest.mark.soak
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_large_one_that_is_stopped_leaves_nothing(
    how: signal.Signals, trained: tuple[Path, nn.Module], folder: Path
) -> None:
    url, _ = trained
    command = [*RELIGHT, "export", str(url), str(folder / "vgg16.pt"), *MAKER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: any(path.stat().st_size for path in folder.glob(".vgg16.pt.*")), what="a file beside it")
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    assert process.returncode not in {0, 1}
    assert "Traceback" not in said
    assert list(folder.iterdir()) == []
