"""Looking at a run: what a person and a script get to see, quickly and without torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run


def relight(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "relight", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_ls_shows_step_epoch_loss_age_size_ranks_and_standing_newest_first(undisturbed: Run) -> None:
    listed = relight("ls", undisturbed.url)
    header, *rows = [line.split() for line in listed.stdout.splitlines()]
    assert header == ["step", "epoch", "loss", "age", "size", "ranks", "valid?"]
    assert [row[0] for row in rows] == ["64", "60", "50", "40", "30"]
    assert all(row[-2:] == ["2", "committed"] for row in rows)


def test_ls_as_json_has_the_same_and_the_metrics(undisturbed: Run) -> None:
    newest = json.loads(relight("ls", undisturbed.url, "--json").stdout)[0]
    assert (newest["step"], newest["epoch"], newest["world_size"], newest["standing"]) == (64, 4, 2, "committed")
    assert 0 < newest["metrics"]["accuracy"] <= 1


@pytest.mark.parametrize(
    "line",
    [
        "ls {url}", "show {url}", "show {url} --digest", "status {url}", "verify {url}", "diff {url}@60 {url}@60",
        "cp {url} {folder}/copy", "gc {url} --keep-last 9 --yes", "report {url} {folder}/page.html",
    ],
)  # fmt: skip
def test_looking_at_a_run_never_imports_torch(undisturbed: Run, tmp_path: Path, line: str) -> None:
    program = (
        "import sys; sys.argv = sys.argv[:1] + sys.argv[1:]\n"
        "from relight.__main__ import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "loaded = {'torch', 'numpy', 's3fs', 'aiohttp'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    arguments = line.format(url=undisturbed.url, folder=tmp_path).split()
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)


def test_ls_answers_at_once(undisturbed: Run) -> None:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        assert relight("ls", undisturbed.url).returncode == 0
        times.append(time.perf_counter() - began)
    print(f"relight ls: {min(times):.2f} s at best, {sorted(times)[2]:.2f} s in the middle of 5")


def test_show_tells_of_tensors_shards_and_state(undisturbed: Run) -> None:
    shown = relight("show", f"{undisturbed.url}@60").stdout
    for line in (
        r"^step +60$",
        r"^world_size +2$",
        r"model/0.weight +F32 +32 x 16",
        r"rank-00001-of-00002.safetensors",
    ):
        assert re.search(line, shown, flags=re.MULTILINE), line
    facts = json.loads(relight("show", undisturbed.url, "--json").stdout)
    assert facts["step"] == 64
    assert facts["tensors"]["optimizer/state/0.weight/exp_avg"] == {"dtype": "F32", "shape": [32, 16]}
    assert facts["state"]["optimizer"]["class"] == "AdamW"
    assert {"rank-00000", "rank-00001"} <= facts["state"].keys()


def test_the_digest_is_printed_alone(undisturbed: Run) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}\n", relight("show", undisturbed.url, "--digest").stdout)
    as_json = json.loads(relight("show", undisturbed.url, "--digest", "--json").stdout)
    assert as_json["digest"] == undisturbed.digest()
    assert relight("show", f"{undisturbed.url}@60", "--digest").stdout.strip() != undisturbed.digest()


def test_verify_proves_every_checkpoint_or_the_one_asked_for(undisturbed: Run) -> None:
    verified = relight("verify", undisturbed.url)
    assert verified.returncode == 0
    assert verified.stdout.splitlines() == [f"step {step}: every byte is proven" for step in (64, 60, 50, 40, 30)]
    one = json.loads(relight("verify", f"{undisturbed.url}@50", "--json").stdout)
    assert [(result["step"], result["valid"], result["damage"]) for result in one] == [(50, True, [])]


def test_a_step_that_is_not_there_is_answered_with_those_that_are(undisturbed: Run) -> None:
    answer = relight("show", f"{undisturbed.url}@55")
    assert answer.returncode == 1
    assert "there is no committed checkpoint of step 55" in answer.stderr
    assert "(there are: 30, 40, 50, 60, 64)" in answer.stderr


def test_run_explains_torchrun_s_part_of_it() -> None:
    assert "usage: relight run [torchrun flags] CONFIG" in relight("run", "--help").stdout
