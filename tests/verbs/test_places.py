"""Whatever a command is pointed at: one clear line, the right exit code, no traceback, in bounded time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from relight.storage.catalog import Catalog
from relight.tests.verbs.door import VERBS, Answer, Door, Request
from relight.tests.verbs.places import contents, flip, make_run, shard

LOOKING: Final = [verb for verb in VERBS if verb not in {"run", "import"}]
"""Those that need a run to be there."""
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
BOUND_S: Final = 60.0


def ask(verb: str, here: str | Path, elsewhere: Path, **options: object) -> Request:
    """The command about that place; whatever it writes goes elsewhere."""
    words = VERBS[verb].split()
    if verb == "run":
        words = ["digits", "storage.url={here}"]
    if verb == "import":
        words = [str(elsewhere / "model.safetensors"), "{here}"]
    outs = {f"{{here}}{end}": str(elsewhere / f"out{end}") for end in (".html", ".pt", "-copy")}
    return Request([verb, *(outs.get(word, word).format(here=here) for word in words)], **options)  # type: ignore[arg-type]


def assert_one_line(answer: Answer, code: int, *says: str) -> None:
    assert "Traceback" not in answer.err, answer.err
    assert answer.code == code, answer
    # On a slow machine a store may be tried for so long that somebody is told of it.
    lines = [line for line in answer.err.splitlines() if "it is tried again until" not in line]
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("relight: "), answer
    for words in says:
        assert words in answer.err, answer.err
    assert answer.seconds < BOUND_S


def code_of(verb: str) -> int:
    """`diff` says 1 when two checkpoints differ, `relight run` has its own codes."""
    return {"diff": 2, "run": 78}.get(verb, 1)


def model_file(folder: Path) -> None:
    """What `import` takes: the smallest safetensors file."""
    header = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    header = header.ljust(-(-len(header) // 8) * 8)
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    model_file(folder)
    return folder


@pytest.mark.parametrize("verb", LOOKING)
def test_where_nothing_is_that_is_said_and_nothing_is_made(
    door: Door, tmp_path: Path, elsewhere: Path, verb: str
) -> None:
    empty, missing = tmp_path / "empty", tmp_path / "missing"
    empty.mkdir()
    answers = door.all([ask(verb, here, elsewhere) for here in (missing, empty)])
    for place, answer in zip((missing, empty), answers, strict=True):
        assert_one_line(answer, code_of(verb), f"there is no run at {place}")
    assert not missing.exists()
    assert contents(tmp_path).keys() == {"elsewhere/model.safetensors"}


@pytest.mark.parametrize("verb", LOOKING)
def test_what_is_somebody_else_s_is_named_and_left_alone(
    door: Door, tmp_path: Path, elsewhere: Path, verb: str
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("budget.xlsx", "notes.txt", "photo.jpg", "thesis.tex"):
        (foreign / name).write_text("mine")
    before = contents(foreign)
    assert_one_line(
        door.all([ask(verb, foreign, elsewhere)])[0],
        code_of(verb),
        f"there is no run at {foreign}",
        "budget.xlsx, notes.txt, photo.jpg, ...",
    )
    assert contents(foreign) == before


@pytest.mark.parametrize("verb", [*LOOKING, "import", "run"])
def test_a_file_in_place_of_a_run_is_said_to_be_one(door: Door, tmp_path: Path, elsewhere: Path, verb: str) -> None:
    (tmp_path / "file").write_text("mine")
    answer = door.all([ask(verb, tmp_path / "file", elsewhere)])[0]
    assert_one_line(answer, code_of(verb), str(tmp_path / "file"), "Not a directory")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.needs("root")
@pytest.mark.parametrize("verb", [*LOOKING, "import", "run"])
def test_a_place_that_may_not_be_read_is_named(door: Door, tmp_path: Path, elsewhere: Path, verb: str) -> None:
    locked = tmp_path / "locked"
    make_run(locked, 10)
    os.chown(locked, 65534, 65534)
    locked.chmod(0o700)
    answer = door.all([ask(verb, locked, elsewhere, humble=True)])[0]
    assert_one_line(answer, code_of(verb), str(locked), "Permission denied", "check who owns it")


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    "arguments", ["cp {run} {locked}/run", "gc {run} --keep-last 1 --yes", "import {file} {locked}/run"]
)
def test_a_place_that_may_not_be_written_is_named(door: Door, tmp_path: Path, elsewhere: Path, arguments: str) -> None:
    run, locked = tmp_path / "run", tmp_path / "locked"
    make_run(run, 10, 20)
    locked.mkdir()
    for path in (locked, *run.rglob("step-*")):
        os.chown(path, 65534, 65534)
    words = arguments.format(run=run, locked=locked, file=elsewhere / "model.safetensors").split()
    assert_one_line(door(*words, humble=True), 1, "Permission denied", "check who owns it")
    assert len(list(Catalog(make_run(run)).committed())) == 2
    assert not list(locked.iterdir())


@contextmanager
def refusing() -> Iterator[str]:
    """A port at which nobody listens, and nobody will while this lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_without_a_network_every_command_says_so_in_bounded_time(door: Door, elsewhere: Path) -> None:
    with refusing() as endpoint:
        places = [f"s3://bucket/run?endpoint_url={each}" for each in (endpoint, "http://no-such-host.invalid:9000")]
        asked = [(verb, place) for verb in VERBS for place in places]
        answers = door.all([ask(verb, place, elsewhere, env=CREDENTIALS) for verb, place in asked])
    for (verb, place), answer in zip(asked, answers, strict=True):
        assert_one_line(
            answer, code_of(verb), f"{place.partition('endpoint_url=')[2]} did not answer", "check the network"
        )
        assert "secret" not in answer.err


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_store_that_takes_everything_and_answers_nothing_is_given_up_at_the_deadline(
    door: Door, elsewhere: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        place = f"s3://bucket/run?endpoint_url=http://127.0.0.1:{hole.getsockname()[1]}"
        answers = door.all([ask(verb, place, elsewhere, env=CREDENTIALS, deadline_s=300) for verb in VERBS])
    for verb, answer in zip(VERBS, answers, strict=True):
        print(f"{verb}: {answer.code} after {answer.seconds:.0f} s")
        assert answer.code == code_of(verb), answer
        *warned, said = answer.err.splitlines()
        assert 1 <= len(warned) <= 2, answer.err
        assert all("it is tried again until" in line for line in warned), answer.err
        assert "did not answer" in said, answer.err


def damage(kind: str, root: Path) -> str:
    """Does it; the name of the file that is to be found."""
    manifest = Catalog(make_run(root, 10)).find().manifest
    folder = root / manifest.id.folder
    if kind == "a flipped bit":
        flip(shard(root, manifest, 1))
        return shard(root, manifest, 1).name
    if kind == "a shard cut short":
        os.truncate(shard(root, manifest), 100)
        return shard(root, manifest).name
    if kind == "a shard gone":
        shard(root, manifest).unlink()
        return shard(root, manifest).name
    if kind == "no receipt":
        (folder / "receipts/rank-00001.json").unlink()
        return "receipts/rank-00001.json"
    if kind == "a broken manifest":
        flip(folder / "manifest.json", 40)
    else:
        (folder / "manifest.json").write_bytes(b"")
    return "manifest.json"


KINDS: Final = (
    "a flipped bit", "a shard cut short", "a shard gone", "no receipt", "a broken manifest", "an empty manifest",
)  # fmt: skip
SEEN_IN_A_LISTING: Final = {"a shard cut short", "a shard gone", "a broken manifest", "an empty manifest"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_is_found_and_named_by_every_command(
    door: Door, tmp_path: Path, elsewhere: Path, kind: str
) -> None:
    root = tmp_path / "run"
    name = damage(kind, root)
    before = contents(root)
    verbs = ["ls", "show", "verify", "diff", "export", "cp", "gc"]
    answers = dict(zip(verbs, door.all([ask(verb, root, elsewhere) for verb in verbs]), strict=True))
    assert not any("Traceback" in answer.err for answer in answers.values()), answers
    _check_those_that_list(answers, name, listed=kind in SEEN_IN_A_LISTING)
    for verb in ("diff", "export", "cp"):
        answer = answers[verb]
        assert answer.code == code_of(verb), answer
        assert name in answer.err or kind in SEEN_IN_A_LISTING, answer
        assert answer.err.splitlines()[-1].endswith(f"checkpoint at {root}"), answer
    assert contents(root) == before
    assert contents(elsewhere).keys() <= {
        "model.safetensors",
        "out-copy/run.json",
        "out-copy/generations/00000001.json",
    }


def _check_those_that_list(answers: Mapping[str, Answer], name: str, *, listed: bool) -> None:
    assert answers["ls"].code == 0
    assert (name in answers["ls"].out and "damaged" in answers["ls"].out) == listed, answers["ls"]
    assert answers["verify"].code == 1
    assert "DAMAGED" in answers["verify"].out
    assert name in answers["verify"].out
    assert (answers["gc"].code, answers["gc"].out) == (0, "there is nothing to delete\n"), answers["gc"]
    assert answers["show"].code in {0, 1}, answers["show"]


@pytest.mark.parametrize("verb", ["show", "export", "cp", "diff"])
def test_a_damaged_step_that_was_asked_for_is_refused_by_name(
    door: Door, tmp_path: Path, elsewhere: Path, verb: str
) -> None:
    root = tmp_path / "run"
    make_run(root, 10, 20)
    manifest = Catalog(make_run(root)).find(20).manifest
    (root / manifest.id.receipt_key(0)).unlink()
    answer = door.all([ask(verb, f"{root}@20", elsewhere)])[0]
    assert_one_line(answer, code_of(verb), "receipts/rank-00000.json is damaged: it is missing")
    if verb != "show":
        fallen_back = door.all([ask(verb, root, elsewhere)])[0]
        assert fallen_back.code == 0, fallen_back
        assert "step 20" in fallen_back.err
        assert "passed over" in fallen_back.err


@pytest.mark.parametrize("verb", ["show", "verify", "export", "cp", "diff"])
def test_a_step_that_is_not_there_is_answered_with_those_that_are(
    door: Door, tmp_path: Path, elsewhere: Path, verb: str
) -> None:
    make_run(tmp_path / "run", 10, 20)
    answer = door.all([ask(verb, f"{tmp_path}/run@15", elsewhere)])[0]
    assert_one_line(answer, code_of(verb), "no committed checkpoint of step 15")
    assert verb == "verify" or "(there are: 10, 20)" in answer.err


def test_a_run_whose_record_is_gone_can_be_looked_at_and_not_be_copied(
    door: Door, tmp_path: Path, elsewhere: Path
) -> None:
    make_run(tmp_path / "run", 10)
    (tmp_path / "run/run.json").unlink()
    assert door("ls", tmp_path / "run").code == 0
    assert door("verify", tmp_path / "run").code == 0
    assert_one_line(door("cp", tmp_path / "run", elsewhere / "copy"), 1, "run.json: no such file")
