"""The newest checkpoints are damaged: every rank resumes from the one before, and the log says which and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from relight.tests.e2e.running import Run


def flip_a_bit(newest: Path) -> tuple[str, str]:
    shard = newest / "rank-00001-of-00002.safetensors"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    return shard.name, "the checksum of block 0 (bytes 0 to "


def cut_a_shard(newest: Path) -> tuple[str, str]:
    shard = newest / "rank-00000-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    return shard.name, " bytes"


def remove_a_shard(newest: Path) -> tuple[str, str]:
    shard = newest / "rank-00001-of-00002.safetensors"
    shard.unlink()
    return shard.name, "missing"


def cut_the_manifest(newest: Path) -> tuple[str, str]:
    manifest = newest / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    return manifest.name, "it is not JSON"


DAMAGES: Final = (flip_a_bit, cut_a_shard, remove_a_shard, cut_the_manifest)


def test_the_checkpoint_before_the_damaged_ones_is_taken(undisturbed: Run, folder: Path) -> None:
    run = Run(folder)
    shutil.copytree(undisturbed.url, run.url)
    *newest, before = undisturbed.committed()
    done = [
        (checkpoint, *damage(run.url / "checkpoints" / checkpoint["name"]))
        for checkpoint, damage in zip(newest, DAMAGES, strict=True)
    ]
    verified = run.relight("verify")
    assert verified.returncode == 1
    lines = [line for line in verified.stdout.splitlines() if "DAMAGED" in line]
    for line, (checkpoint, file, reason) in zip(lines, done, strict=True):
        assert checkpoint["name"] in line
        assert file in line
        assert reason in line

    assert run.finish() == 0, run.text
    assert f"resumed from step {before['step']} " in run.text
    for checkpoint, file, reason in done:
        unused = f"checkpoint of step {checkpoint['step']} is not used"
        (line,) = [line for line in run.text.splitlines() if unused in line]
        assert file in line
        assert reason in line
    assert run.digest() == undisturbed.digest()


def test_a_run_of_which_nothing_is_left_starts_over_and_ends_the_same(undisturbed: Run, folder: Path) -> None:
    run = Run(folder)
    shutil.copytree(undisturbed.url, run.url)
    for checkpoint in (run.url / "checkpoints").iterdir():
        flip_a_bit(checkpoint)
    assert run.finish() == 0, run.text
    assert "none of the 5 checkpoints" in run.text
    assert run.digest() == undisturbed.digest()


def test_a_finished_run_started_again_does_nothing(undisturbed: Run, folder: Path) -> None:
    run = Run(folder)
    shutil.copytree(undisturbed.url, run.url)
    before = json.loads(run.relight("ls", "--json").stdout)
    assert run.finish() == 0, run.text
    assert json.loads(run.relight("ls", "--json").stdout) == before
