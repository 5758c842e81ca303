"""Each benchmark runs from end to end, prints its tables, and writes them under names that scripts rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from relight.benchmarks import ratios

ROOT: Final = Path(__file__).parent.parent.parent


def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` from the root of the checkout."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_checkpoint_measures_ours_beside_dcp_and_the_floors(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    size = ("--bytes", "8MiB", "--ranks", "2", "--rounds", "1", "--peers", "dcp_save")
    done = run("-m", "benchmarks.checkpoint", *size, "--storage", tmp_path, "--json", out)
    report = read(out)
    assert set(report["ratios"]) == {claim.name for claim in ratios.claims(remote=False)}
    for name in ("stall_over_memcpy", "save_durable_speedup_over_dcp", "restore_speedup_over_dcp"):
        assert report["ratios"][name] > 0
        assert name in done.stdout
    assert report["ratios"]["bytes_read_over_state"] < 1.05
    assert 0.99 <= report["state"]["bytes"] / (8 << 20) <= 1
    for measure in ("stall_s", "durable_s", "restore_s", "restore_warm_s", "cpu_s", "peak_extra_bytes", "bytes_stored"):
        assert set(report["measures"][measure]["relight"]) == {"median", "min", "max", "samples"}, measure
    assert report["versions"]["torch"]
    assert {"cores", "memory_bytes", "filesystem"} <= set(report["machine"])
    assert list(tmp_path.iterdir()) == [out], "what was saved is left behind"


def test_planning_grows_with_no_number_of_ranks(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("-m", "benchmarks.planning", "--parameters", "40", "--worlds", "1", "2", "1024", "--json", out)
    report = read(out)
    assert report["ratios"]["manifest_kib_per_rank"] <= 1
    assert report["ratios"]["largest_share_over_mean"] <= 1.1
    assert [row["ranks"] for row in report["worlds"]] == [1, 2, 1024]
    assert "manifest / rank" in done.stdout


def test_restart_counts_who_came_back_and_how_fast(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("-m", "benchmarks.restart", "--kills", "1", "--peers", "none", "--json", out)
    report = read(out)
    assert report["recovered"] == report["kills"] == 1
    assert report["median_s"] > 0
    assert report["speedup_over_torchrun"] is None
    assert "1 of 1" in done.stdout


def test_without_a_gpu_one_line_says_that_nothing_was_measured() -> None:
    done = run("benchmarks/gpu.py", code=3)
    assert done.stdout == ""
    assert done.stderr == "benchmarks/gpu.py: torch sees no NVIDIA GPU on this machine; nothing was measured\n"


def test_a_peer_that_is_none_is_named_with_those_that_are(tmp_path: Path) -> None:
    done = run("-m", "benchmarks.checkpoint", "--peers", "dcp", "--storage", tmp_path, code=2)
    assert "--peers: no such peer: dcp. There are torch_save, dcp_save," in done.stdout
    assert not list(tmp_path.iterdir())


def test_exporting_counts_the_peak_of_each_format(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run(
        "-m",
        "benchmarks.exporting",
        "--bytes",
        "8MiB",
        "--formats",
        "safetensors",
        "--storage",
        tmp_path,
        "--json",
        out,
    )
    row = read(out)["formats"]["safetensors"]
    assert row["written_bytes"] >= 2 << 20
    assert 0 < row["peak_bytes"] < 256 << 20, "torch was loaded"
    assert "safetensors" in done.stdout
    assert list(tmp_path.iterdir()) == [out], "what was saved is left behind"
