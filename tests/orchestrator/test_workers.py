"""A worker that was forked is what a worker that was started would have been."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relight.configs.failure import ENV_ERROR_FILE, FailureReport, read_failure
from relight.configs.protocol import ExitCode
from relight.orchestrator.errors import ZygoteDied
from relight.orchestrator.forking import entries
from relight.orchestrator.forking.group import Group
from relight.orchestrator.forking.spawning import Entry, Spawn, pair, receive, send
from relight.tests.orchestrator.launching import SCRIPTS, Launched
from relight.tests.waiting import wait_until

FACTS = SCRIPTS / "facts.py"


def facts_of(out: Path, rank: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(out.with_suffix(f".{rank}").read_text())
    return document


def test_a_script_runs_as_python_would_run_it(launched: Launched, tmp_path: Path) -> None:
    assert launched.run("--nproc-per-node=2", FACTS, tmp_path / "out", "--x", "a b") == ExitCode.FINISHED
    facts = facts_of(tmp_path / "out")
    assert facts["argv"] == [str(FACTS), str(tmp_path / "out"), "--x", "a b"]
    assert facts["path"] == str(SCRIPTS)
    assert (facts["file"], facts["package"], facts["main"]) == (str(FACTS), None, True)
    assert facts["session"], "a signal to one worker's group must not reach another"
    assert facts["threads"] == 1


def test_loader_workers_are_forked_or_spawned_and_find_the_scripts_classes(launched: Launched, tmp_path: Path) -> None:
    for flag in ("--fork", "--spawn"):
        assert launched.run(FACTS, tmp_path / "out", flag) == ExitCode.FINISHED, launched.said
        facts = facts_of(tmp_path / "out")
        assert facts["squares"] == [0, 1, 4, 9]
        assert facts["loaders_are_ours"]


def test_every_worker_has_its_own_random_numbers(launched: Launched, tmp_path: Path) -> None:
    launched.run("--nproc-per-node=2", FACTS, tmp_path / "out")
    assert facts_of(tmp_path / "out", 0)["random"] != facts_of(tmp_path / "out", 1)["random"]


def test_a_worker_sees_the_launchers_environment_and_torchruns_variables(launched: Launched, tmp_path: Path) -> None:
    launched.run("--nproc-per-node=2", "--role=trainer", FACTS, tmp_path / "out")
    environment = facts_of(tmp_path / "out", 1)["environment"]
    ours = {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "ROLE_NAME": "trainer",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    assert environment.items() >= ours.items()
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["OMP_NUM_THREADS"] == "1"


def test_a_module_runs_as_with_python_m(launched: Launched, tmp_path: Path) -> None:
    name = "relight.tests.orchestrator.scripts.facts"
    assert launched.run("-m", name, tmp_path / "out", "--fork") == ExitCode.FINISHED, launched.said
    facts = facts_of(tmp_path / "out")
    assert facts["argv"] == [str(FACTS), str(tmp_path / "out"), "--fork"]
    assert (facts["file"], facts["package"], facts["main"]) == (str(FACTS), name.rpartition(".")[0], True)
    assert facts["path"] == str(Path.cwd())
    assert facts["squares"] == [0, 1, 4, 9]


def test_a_package_runs_by_its_main_module(launched: Launched, tmp_path: Path) -> None:
    assert launched.run("-r1", f"--log-dir={tmp_path}", "-m", "unittest", "--help") == ExitCode.FINISHED
    assert (tmp_path / "attempt_1" / "0" / "stdout.log").read_text().startswith("usage: python")


def test_a_module_that_is_not_there_is_told(launched: Launched) -> None:
    assert launched.run("-m", "no_such_module") == ExitCode.GAVE_UP
    assert " failed: ModuleNotFoundError: No module named 'no_such_module'; " in launched.said[0]


def test_any_program_runs_with_no_python(launched: Launched, tmp_path: Path) -> None:
    command = 'echo "$RANK of $WORLD_SIZE: $0 $1"; exit $2'
    flags = ("--nproc-per-node=2", "-r", "1", "--log-dir", tmp_path, "--no-python")
    assert launched.run(*flags, "sh", "-c", command, "name", "a b", "0") == ExitCode.FINISHED
    for rank in (0, 1):
        assert (tmp_path / "attempt_1" / str(rank) / "stdout.log").read_text() == f"{rank} of 2: name a b\n"
    assert launched.run("--max-restarts=0", "--no-python", "sh", "-c", "kill -s SEGV $$") == ExitCode.GAVE_UP
    assert "  cause    killed by SIGSEGV (killed)\n" in launched.said[-1]


def test_output_goes_to_files_that_every_attempt_keeps(launched: Launched, tmp_path: Path) -> None:
    script = tmp_path / "twice.py"
    script.write_text(
        f"exec(open({str(FACTS)!r}).read())\nimport os\nraise SystemExit(2 - int(os.environ['RELIGHT_ATTEMPT']))"
    )
    logs = tmp_path / "logs"
    flags = ("--nproc-per-node=2", "--redirects=0:3,1:1", "--local-ranks-filter=0", f"--log-dir={logs}")
    assert launched.run(*flags, script, tmp_path / "out") == ExitCode.FINISHED
    for attempt in ("attempt_1", "attempt_2"):
        assert (logs / attempt / "0" / "stdout.log").read_text() == "out of rank 0\n"
        assert (logs / attempt / "0" / "stderr.log").read_text() == "err of rank 0\n"
        assert (logs / attempt / "1" / "stdout.log").read_text() == "out of rank 1\n"
        assert not (logs / attempt / "1" / "stderr.log").exists()


def test_the_zygote_has_one_thread_and_knows_torch(group: Group) -> None:
    stat = Path(f"/proc/{group._zygote.pid}")
    wait_until(lambda: [*_take(group), group._ready], deadline_s=60)
    assert len(list((stat / "task").iterdir())) == 1
    assert "libtorch_cpu" in (stat / "maps").read_text()
    assert not [link for link in (stat / "fd").iterdir() if "nvidia" in str(link.readlink())]


def _take(group: Group) -> list[Any]:
    assert not group.running
    return list(group.exits())


def test_a_zygote_that_cannot_start_is_said_to_have_died(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    with closing(Group(os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"})) as group:
        with pytest.raises(ZygoteDied) as caught:
            wait_until(group.exits)
        assert str(caught.value) == "the process that starts the workers ended with exit code 1; see above for why"


def test_requests_cross_the_socket_whole() -> None:
    left, right = pair()
    with left, right:
        spawn = Spawn(3, Entry("script", "a.py", ("--x", "ü")), {"A": "b" * 50_000}, None, "/tmp/err")
        send(left, spawn.to_document())
        assert Spawn.from_document(receive(right)[0]) == spawn
        left.close()
        with pytest.raises(EOFError):
            receive(right)


def test_descriptors_cross_the_socket() -> None:
    left, right = pair()
    with left, right, socket.socket() as carried:
        send(left, {"spawned": 1}, carried.fileno())
        document, descriptors = receive(right)
        assert document == {"spawned": 1}
        assert os.fstat(descriptors[0]) == os.fstat(carried.fileno())
        os.close(descriptors[0])


def test_an_error_becomes_a_report_without_our_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "broken.py"
    script.write_text("def inner():\n    raise KeyError('x')\ninner()\n")
    monkeypatch.setenv(ENV_ERROR_FILE, str(tmp_path / "report"))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    assert entries.run(Entry("script", str(script))) == 1
    report = read_failure(tmp_path / "report")
    assert isinstance(report, FailureReport)
    assert (report.kind, report.message) == ("KeyError", "'x'")
    assert report.traceback.splitlines()[1] == f'  File "{script}", line 3, in <module>'


def test_without_a_launcher_an_error_is_pythons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_ERROR_FILE, raising=False)
    with pytest.raises(FileNotFoundError):
        entries.run(Entry("script", str(tmp_path / "none.py")))


def test_a_function_gives_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(threading, "seventy", lambda: 70, raising=False)
    assert entries.run(Entry("call", "threading:seventy")) == 70


class Answer(Exception):
    exit_code = ExitCode.BAD_CONFIG


def test_an_error_that_is_an_answer_ends_a_script_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise Answer("the URL holds another run")

    monkeypatch.setenv(ENV_ERROR_FILE, str(tmp_path / "report"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(threading, "refuse", refuse, raising=False)
    assert entries.run(Entry("call", "threading:refuse")) == ExitCode.BAD_CONFIG
    report = read_failure(tmp_path / "report")
    assert report is not None
    assert (report.message, report.traceback) == ("the URL holds another run", "")


def test_the_text_of_an_exit_reaches_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_ERROR_FILE, str(tmp_path / "report"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(threading, "leave", lambda: sys.exit("no such dataset"), raising=False)
    assert entries.run(Entry("call", "threading:leave")) == 1
    report = read_failure(tmp_path / "report")
    assert report is not None
    assert (report.kind, report.message, report.traceback) == ("SystemExit", "no such dataset", "")
    monkeypatch.setattr(threading, "leave", lambda: sys.exit(3))
    with pytest.raises(SystemExit):
        entries.run(Entry("call", "threading:leave"))
