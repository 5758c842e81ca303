"""cp and gc as people and scripts meet them: what they print, how they exit, and what they never do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relight.orchestrator.commands.reclaiming import collect
from relight.storage import generations, runs
from relight.storage.arrangement import plan
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.errors import Busy
from relight.storage.persist import persist
from relight.storage.retention import Rules
from relight.storage.shards import Piece
from relight.tests.storage.checkpoints import attempt_id, job, persist_rank, steps
from relight.tests.verbs.door import Answer, Door
from relight.tests.verbs.places import contents, flip, make_run, shard

MIB = 1 << 20


def ended(answer: Answer, code: int, out: str = "", err: str = "") -> None:
    assert (answer.code, answer.out, answer.err) == (code, out, err)


def test_the_newest_is_copied_once_and_then_is_there_already(door: Door, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 10, 20)
    copy = tmp_path / "copy"
    ended(door("cp", tmp_path / "run", copy), 0, f"step 20: 8.2 KiB copied to {copy}\n")
    before = contents(copy)
    ended(door("cp", tmp_path / "run", copy), 0, f"step 20: is at {copy} already\n")
    assert contents(copy) == before
    ended(door("cp", f"{tmp_path}/run@10", copy), 0, f"step 10: 8.2 KiB copied to {copy}\n")
    assert steps(LocalBackend(copy)) == [20, 10]
    ended(
        door("diff", tmp_path / "run", copy),
        0,
        f"a  {tmp_path}/run@20\nb  {copy}@20\nequal: every tensor and every value\n",
    )


def test_all_of_a_run_is_copied_oldest_first_and_what_is_damaged_is_left_out(door: Door, tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    make_run(run, 10, 20, 30)
    flip(shard(run, Catalog(make_run(run)).find(20).manifest))
    answer = door("cp", run, copy, "--all", "--json")
    assert answer.code == 1
    assert [(each["step"], each["outcome"]) for each in json.loads(answer.out)] == [
        (10, "copied"),
        (20, "damaged"),
        (30, "copied"),
    ]
    assert answer.err.startswith("relight: step 20 is passed over: checkpoints/step-000000000020-")
    assert steps(LocalBackend(copy)) == [30, 10]
    assert (
        door("cp", f"{run}@10", copy, "--all").err == "relight: --all copies every checkpoint, and @10 asks for one\n"
    )


def test_another_run_is_never_mixed_in_and_a_run_at_work_is_not_disturbed(door: Door, tmp_path: Path) -> None:
    run, other, copy = (tmp_path / name for name in ("run", "other", "copy"))
    make_run(run, 10, 20)
    make_run(other, 10, name="gpt")
    before = contents(other)
    refused = f"relight: {other} holds another run (name=gpt). Nothing was changed. Choose a new place\n"
    ended(door("cp", run, other), 1, "", refused)
    assert contents(other) == before
    assert door("cp", f"{run}@10", copy).code == 0
    before = contents(copy)
    with persister_at_work(copy):
        ended(
            door("cp", run, copy), 1, "",
            f"relight: {copy} holds this run already, and checkpoints of it are being written by processes on this "
            "host. Stop it first, or choose another place\n",
        )  # fmt: skip
    assert contents(copy) == before
    assert door("cp", run, copy).code == 0


class persister_at_work:  # noqa: N801 -- read as a function
    """A process that has announced, as a trainer does, that it works for the run at this place."""

    def __init__(self, place: Path) -> None:
        program = (
            "import sys; from relight.storage.living import Living; living = Living.announce(sys.argv[1], 0);"
            "print(flush=True); sys.stdin.read()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def large_run(root: Path, size: int) -> None:
    backend = make_run(root)
    layout = plan([Piece.whole("w", "U8", (size,))], {})
    data = memoryview(bytearray(layout.header.ljust(layout.size, b"\x55")))
    outcome = persist(backend, job(attempt_id(10), world_size=1, run=runs.read(backend).run), data)
    assert outcome.committed


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle_leaves_one_line_and_nothing_half_written(door: Door, tmp_path: Path, by: int) -> None:
    large_run(tmp_path / "run", 256 * MIB)
    half = f"{tmp_path}/copy/checkpoints/*/.rank-*.tmp"
    answer = door("cp", tmp_path / "run", tmp_path / "copy", interrupt_at=half, by=by)
    ended(answer, 130, "", "relight: interrupted\n")
    assert contents(tmp_path / "copy").keys() == {"run.json", "generations/00000001.json"}
    assert door("cp", tmp_path / "run", tmp_path / "copy").code == 0
    assert door("verify", tmp_path / "copy").code == 0


def run_with_leftovers(root: Path) -> LocalBackend:
    """Steps 10 to 40 of a first life, one given up at 35; a second one that is writing step 45."""
    backend = make_run(root, 10, 20, 30, 40)
    persist_rank(backend, attempt_id(35), 1)
    generations.claim(backend, incarnation="two", resumed_from=40, host="here")
    persist_rank(backend, attempt_id(45, generation=2), 1)
    return backend


def test_gc_says_what_it_would_delete_and_deletes_that_and_nothing_else(door: Door, tmp_path: Path) -> None:
    run_with_leftovers(tmp_path / "run")
    before = contents(tmp_path / "run")
    shown = door("gc", tmp_path / "run", "--keep-last", "2")
    assert [line.rstrip().split(maxsplit=3)[0::3] for line in shown.out.splitlines()[:-1]] == [
        ["step"],
        ["10", "no rule keeps it"],
        ["20", "no rule keeps it"],
        ["35", "a save that was never finished"],
    ]
    assert shown.out.splitlines()[-1].startswith("nothing was deleted; --yes would free 22.")
    assert contents(tmp_path / "run") == before
    done = door("gc", tmp_path / "run", "--keep-last", "2", "--yes", "--json")
    facts = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert ([each["step"] for each in facts["items"]], facts["deleted"]) == ([10, 20, 35], True)
    left = contents(tmp_path / "run")
    assert facts["bytes"] == sum(map(len, before.values())) - sum(map(len, left.values()))
    assert {name.split("/")[1].split("-")[1].lstrip("0") for name in left if name.startswith("checkpoints/")} == {
        "30",
        "40",
        "45",
    }
    ended(door("gc", tmp_path / "run", "--keep-last", "2"), 0, "there is nothing to delete\n")


def test_gc_without_a_rule_lets_no_checkpoint_go(door: Door, tmp_path: Path) -> None:
    backend = run_with_leftovers(tmp_path / "run")
    assert door("gc", tmp_path / "run", "--yes").out.splitlines()[-1] == "freed 4.3 KiB"
    assert steps(backend) == [40, 30, 20, 10]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (["--keep-last", "1"], [40]),
        (["--keep-every", "20"], [40, 20]),
        (["--keep-best", "loss:min"], [40, 10]),
        (["--pin", "10", "--pin", "20"], [40, 20, 10]),
        (["--keep-last", "2", "--pin", "10"], [40, 30, 10]),
    ],
)
def test_the_rules_are_those_of_a_configuration(door: Door, tmp_path: Path, rule: list[str], kept: list[int]) -> None:
    backend = make_run(tmp_path / "run", 10, 20, 30, 40)
    assert door("gc", tmp_path / "run", "--yes", *rule).code == 0
    assert steps(backend) == kept


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            ["--keep-every", "often"],
            '--keep-every often: expected steps (50) or a time ("30s", "5m", "1.5h"), greater than 0',
        ),
        (
            ["--keep-best", "loss:worst"],
            "--keep-best loss:worst: the best by loss is its min or its max, not its worst",
        ),
    ],
)
def test_a_rule_that_cannot_be_is_refused(door: Door, tmp_path: Path, rule: list[str], says: str) -> None:
    make_run(tmp_path / "run", 10)
    ended(door("gc", tmp_path / "run", *rule), 2, "", f"relight: {says}\n")


def test_the_newest_valid_checkpoint_stays_whatever_the_rule_and_however_whole_the_newer_ones_look(
    door: Door, tmp_path: Path
) -> None:
    backend = make_run(tmp_path / "run", 10, 20, 30, 40)
    for step in (30, 40):
        flip(shard(tmp_path / "run", Catalog(backend).find(step).manifest))
    answer = door("gc", tmp_path / "run", "--keep-last", "1", "--yes")
    assert answer.code == 0
    assert [line.split(":")[1] for line in answer.err.splitlines()] == [
        " step 40 does not count", " step 30 does not count",
    ]  # fmt: skip
    assert steps(backend) == [40, 30, 20]
    assert door("verify", f"{tmp_path}/run@20").code == 0


def test_when_no_checkpoint_is_valid_none_goes(door: Door, tmp_path: Path) -> None:
    backend = make_run(tmp_path / "run", 10, 20)
    for step in (10, 20):
        flip(shard(tmp_path / "run", Catalog(backend).find(step).manifest))
    assert door("gc", tmp_path / "run", "--keep-last", "1", "--yes").out == "there is nothing to delete\n"
    assert steps(backend) == [20, 10]


def test_nothing_is_deleted_when_a_launcher_begins_meanwhile(tmp_path: Path) -> None:
    backend = make_run(tmp_path / "run", 10, 20)

    @contextmanager
    def slow(_: int) -> Iterator[Callable[[int], object]]:
        generations.claim(backend, incarnation="two", resumed_from=10, host="here")
        yield lambda _: None

    with pytest.raises(Busy) as busy:
        collect(str(tmp_path / "run"), Rules(keep_last=1), delete=True, complain=print, progress=slow)
    assert str(busy.value) == (
        f"a launcher has begun to go on with the run at {tmp_path}/run. Nothing was deleted; look again"
    )
    assert len(Catalog(backend).attempts()) == 2


def test_a_part_of_the_state_is_shown_alone_and_a_misspelt_one_is_refused(door: Door, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 10)
    shown = json.loads(door("show", tmp_path / "run", "--only", "model", "--json").out)
    assert (list(shown["tensors"]), shown["state"]) == (["model/weight"], {})
    digests = {door("show", tmp_path / "run", "--digest", *only).out for only in ([], ["--only", "model"])}
    assert len(digests) == 2
    for options in ([], ["--digest"]):
        answer = door("show", tmp_path / "run", "--only", "modle", *options)
        parts = "model, progress" if options else "model, progress, rank-00000, rank-00001"
        ended(answer, 2, "", f"relight: step 10 has no part 'modle'; its parts are {parts}\n")


def test_what_a_dead_worker_s_persister_still_writes_is_spared(door: Door, tmp_path: Path) -> None:
    run_with_leftovers(tmp_path / "run")
    # The trainer announces its persister and dies; the persister, its child, holds the file and works on.
    program = (
        "import os, sys, signal; from relight.storage.living import Living; living = Living.announce(sys.argv[1], 0)\n"
        "if not os.fork(): print(os.getpid(), flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as trainer:
        assert trainer.stdout is not None
        persister = int(trainer.stdout.readline())
        trainer.wait()
    try:
        ended(door("gc", tmp_path / "run"), 0, "there is nothing to delete\n")
    finally:
        os.kill(persister, signal.SIGKILL)
    assert "never finished" in door("gc", tmp_path / "run").out
