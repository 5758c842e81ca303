"""What docs/dcp.md shows first is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import relight

PAGE = Path(relight.__file__).parent / "docs/dcp.md"


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_the_first_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    exec(compile(example, str(PAGE), "exec"), {})
    assert relight.dcp.newest_step("runs/digits") == 100
    assert relight.dcp.newest_step("runs/others") is None
