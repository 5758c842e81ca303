"""The commands that the pages show with a bucket, against a real server; and the page's own way to start one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from relight.tests.docs.shown import ROOT, Shown, blocks, commands, pages
from relight.tests.servers import Server
from relight.tests.workers import forge

PAGE: Final = ROOT / "docs" / "s3.md"
SHOWN: Final = [shown for page in pages() for shown in commands(page) if "s3://" in shown.line]


def there(shown: Shown, server: Server) -> list[str]:
    """Its words, with the bucket that there is in place of the page's."""
    names = {"bucket/run": "bucket/my-run", "bucket/digits": "bucket/my-run"}
    line = shown.line
    for name, other in names.items():
        line = line.replace(name, other)
    line = line.replace("s3://bucket/", "s3://bucket/pages/").replace("http://minio:9000", server.endpoint_url)
    return [re.sub("&region=[a-z0-9-]+", "", word) for word in shlex.split(line, comments=True)]


@pytest.mark.needs("weed")
def test_what_is_shown_with_a_bucket_works_with_one(seaweed: Server, tiny: Path, tmp_path: Path) -> None:
    """Behind a copy of the run to where the pages have it."""
    shutil.copytree(tiny / "runs/digits", tmp_path / "runs/digits")
    todo = [["cp", name, seaweed.url("pages/my-run")] for name in ("runs/digits@200", "runs/digits")]
    for number, shown in enumerate(each for each in SHOWN if each.words[:2] != ["relight", "run"]):
        words = there(shown, seaweed)[1:]
        todo.append([*words[:-1], f"{words[-1]}-{number}"] if words[0] == "cp" else words)
    assert len(todo) >= 5
    output = tmp_path / "said"
    told = json.dumps({str(tmp_path): todo})
    assert forge.run("relight.tests.docs.commanding:main", [told], seaweed.environment, output) == 0, output.read_text()
    failed = tmp_path / "failed"
    assert not failed.exists(), failed.read_text()


def test_the_page_tells_the_server_who_may_come_in_as_the_tests_do() -> None:
    (told,) = [text for language, text in blocks(PAGE) if language == "json"]
    (identity,) = json.loads(told)["identities"]
    (credentials,) = identity["credentials"]
    exported = next(shown.line for shown in commands(PAGE) if "AWS_SECRET_ACCESS_KEY" in shown.line)
    assert f"AWS_ACCESS_KEY_ID={credentials['accessKey']} " in exported
    assert f"AWS_SECRET_ACCESS_KEY={credentials['secretKey']} " in exported


@pytest.mark.soak
@pytest.mark.needs("weed")
def test_the_pages_own_server_takes_a_run(tiny: Path, tmp_path: Path) -> None:
    """With its default ports, which must be free: as a reader types it."""
    (told,) = [text for language, text in blocks(PAGE) if language == "json"]
    (tmp_path / "s3.json").write_text(told, encoding="utf-8")
    (block,) = [text for _, text in blocks(PAGE) if "weed server" in text]
    shutil.copy(tiny / "my.yaml", tmp_path / "digits.yaml")
    started, _, rest = block.partition("export ")
    wait = "until curl -s -o /dev/null http://127.0.0.1:8333; do :; done"
    rest = rest.replace(" digits ", " --nproc-per-node 1 digits.yaml ")
    script = f"set -e\n{started}trap 'kill %1' EXIT\n{wait}\nexport {rest}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = ["bash", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs/from-the-bucket/run.json").exists()
