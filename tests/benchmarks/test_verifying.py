"""The benchmark of verifying measures what it says: every byte proven, and commands whose memory stays small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relight.benchmarks import verifying


def test_rates_and_memory_are_measured_and_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = 64 << 20
    out = tmp_path / "out.json"
    options = ["--bytes", "64MiB", "--rounds", "1", "--folder", str(tmp_path), "--json", str(out)]
    assert verifying.main(options) == 0
    report = json.loads(out.read_text())
    assert report["bytes"] == size
    assert report["ratios"].keys() == {"cold", "warm"}
    assert all(len(found) == 1 for measured in report["seconds"].values() for found in measured.values())
    assert {name: facts["exit_code"] for name, facts in report["commands"].items()} == dict.fromkeys(
        ("verify", "show --digest", "cp", "diff"), 0
    )
    assert "every byte of 64 MiB" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
