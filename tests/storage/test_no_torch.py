"""The ground floor starts fast: no module of it pulls in torch, numpy or another room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOM = Path(__file__).parents[2] / "storage"
MODULES = sorted(
    ".".join(("relight", *path.relative_to(ROOM.parent).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOM.rglob("*.py")
)
FOREIGN = ("torch", "torchvision", "numpy", "relight.workers", "relight.orchestrator", "relight.configs")


def test_no_module_of_the_room_imports_torch_or_another_room_whichever_is_first() -> None:
    """Each in turn is imported first, in one interpreter, so that no import goes round in a circle either."""
    code = f"""
import importlib, sys
for name in {MODULES!r}:
    for known in [known for known in sys.modules if known.startswith("relight")]:
        del sys.modules[known]
    importlib.import_module(name)
    found = [foreign for foreign in {FOREIGN!r} if foreign in sys.modules]
    assert not found, f"{{name}} imports {{found}}"
"""
    assert "relight.storage.backends.local" in MODULES
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
