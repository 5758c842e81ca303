"""The persister's process: it outlives its trainer, its own death is an outcome, and nothing of it is left behind."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.storage import living
from relight.storage.backends.local import LocalBackend
from relight.storage.manifest import Number, Progress
from relight.storage.persist import Outcome
from relight.storage.persister_process import ProcessPersister
from relight.storage.staged import Staged
from relight.tests.processes import alive, descendants
from relight.tests.storage.checkpoints import attempt_id, job, persist_rank, shard, steps
from relight.tests.storage.staging import Stage
from relight.tests.waiting import wait_until


@pytest.fixture
def persister(tmp_path: Path) -> Iterator[ProcessPersister]:
    opened = ProcessPersister(str(tmp_path), rank=0)
    yield opened
    for step in (10, 20):
        opened.cancel(step, "the test is over")
    opened.close()


def pid_of(persister: ProcessPersister) -> int:
    assert persister._life is not None
    return persister._life.process.pid


def await_started(persister: ProcessPersister, stage: Stage, folder: Path) -> int:
    """Its process number, once it has done something."""
    persister.keep(job(attempt_id(1)), stage(shard(1), folder / "started.seal"))
    wait_until((folder / "started.seal").exists)
    return pid_of(persister)


def modules_of(pid: int) -> set[str]:
    return {Path(line.split()[-1]).name for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/" in line}


def test_it_knows_no_torch_and_nothing_of_its_trainer_but_what_it_was_given(
    persister: ProcessPersister, tmp_path: Path, stage: Stage
) -> None:
    with socket.socket() as secret:
        os.set_inheritable(secret.fileno(), True)
        other = ProcessPersister(str(tmp_path / "other"), rank=1)
        pid = await_started(other, stage, tmp_path)
        open_there = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
        assert f"socket:[{os.fstat(secret.fileno()).st_ino}]" not in open_there
        assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
        assert os.getsid(pid) == pid
        assert not {name for name in modules_of(pid) if "torch" in name or "numpy" in name}
        other.close()


def test_a_module_beside_the_script_shadows_none_of_its_own(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('I am the script\\'s own queue')")
    monkeypatch.chdir(tmp_path)
    persister = ProcessPersister(str(tmp_path / "run"), rank=0)
    persister.submit(job(attempt_id(10), world_size=1), stage(shard(10, 0, 1)))
    persister.close()
    assert persister.outcome() == Outcome(10, committed=True)


def test_nobody_waits_for_its_start(tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never comes up here, and only `wait` and `close` would notice."""
    never = tmp_path / "python"
    never.write_text("#!/bin/sh\nexec sleep 600\n")
    never.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(never))
    persister = ProcessPersister(str(tmp_path / "run"), rank=0)
    staged = stage(shard(10))
    persister.submit(job(attempt_id(10)), staged)
    persister.keep(job(attempt_id(11)), stage(shard(11), tmp_path / "arena.seal"))
    persister.cancel(10, "step 10: it will not come")
    assert persister.busy
    assert persister.holds(staged.descriptor)
    assert persister.outcome() is None
    assert not persister.wait(0.01)
    os.kill(pid_of(persister), signal.SIGKILL)
    persister.close()
    assert not persister.holds(staged.descriptor)


def test_what_is_more_than_its_inbox_holds_is_a_failed_save_and_no_standstill(
    tmp_path: Path, stage: Stage, persister: ProcessPersister
) -> None:
    os.kill(await_started(persister, stage, tmp_path), signal.SIGSTOP)
    staged = stage(shard(10))
    for step in range(10, 2000):
        persister.submit(job(attempt_id(step), world_size=1), staged)
        if outcome := persister.outcome():
            break
    assert outcome == Outcome(step, failed="rank 0's persister takes nothing more: Resource temporarily unavailable")
    persister.keep(job(attempt_id(step)), staged)
    os.kill(pid_of(persister), signal.SIGKILL)


def test_its_death_is_the_outcome_of_all_it_was_doing_and_the_next_save_is_fine(
    persister: ProcessPersister, tmp_path: Path, stage: Stage
) -> None:
    done, first, second = stage(shard(5, 0, 1)), stage(shard(10)), stage(shard(20))
    persister.submit(job(attempt_id(5), world_size=1, keep_last=1), done)
    assert persister.wait(20)
    assert persister.outcome() == Outcome(5, committed=True)
    persister.submit(job(attempt_id(10)), first)
    persister.submit(job(attempt_id(20)), second)
    wait_until(lambda: not persister.holds(first.descriptor))
    first_life = pid_of(persister)
    os.kill(first_life, signal.SIGKILL)
    assert persister.wait(20)
    reason = "rank 0's persister died of SIGKILL before it was done. The next save starts another"
    assert [persister.outcome() for _ in range(3)] == [Outcome(10, failed=reason), Outcome(20, failed=reason), None]
    assert not persister.holds(second.descriptor)
    assert not Path(f"/proc/{first_life}").exists(), "it is a zombie"
    persister.keep(job(attempt_id(25)), stage(shard(25)))  # Nobody is there, and nobody is hurt.
    persister.submit(job(attempt_id(30), world_size=1, keep_last=1), stage(shard(30, 0, 1)))
    assert persister.wait(20)
    assert persister.outcome() == Outcome(30, committed=True)
    assert pid_of(persister) != first_life
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [attempt_id(30).name]


def test_its_death_between_two_saves_is_one_line(
    persister: ProcessPersister, tmp_path: Path, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(await_started(persister, stage, tmp_path), signal.SIGKILL)
    wait_until(lambda: not persister.busy and caplog.messages)
    assert caplog.messages == ["rank 0's persister died of SIGKILL. The next save starts another"]


def test_where_no_process_can_be_started_a_save_has_failed(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    persister = ProcessPersister(str(tmp_path), rank=3)
    persister.keep(job(attempt_id(9)), stage(shard(9)))
    persister.submit(job(attempt_id(10)), stage(shard(10)))
    assert not persister.busy
    assert persister.outcome() == Outcome(
        10, failed=f"rank 3 has no persister: [Errno 2] No such file or directory: '{tmp_path}/no-python'"
    )
    persister.close()
    assert not living.everyone(str(tmp_path))


def test_what_was_committed_before_its_death_is_known_to_its_heir(
    persister: ProcessPersister, tmp_path: Path, stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    """By a listing that does not show it nothing is deleted."""
    for step in (10, 20, 30):
        persister.submit(job(attempt_id(step), world_size=1, keep_last=2), stage(shard(step, 0, 1)))
    assert persister.wait(20)
    os.kill(pid_of(persister), signal.SIGKILL)
    (tmp_path / attempt_id(20).folder).rename(tmp_path / "away")
    wait_until(lambda: not persister.busy and persister._life is None)
    for step in (40, 50):
        persister.submit(job(attempt_id(step), world_size=1, keep_last=2), stage(shard(step, 0, 1)))
    persister.close()
    assert steps(LocalBackend(tmp_path)) == [50, 40, 30]
    assert f"its listing does not show {attempt_id(20).name}, committed by this run" in capfd.readouterr().err


def test_signals_to_stop_are_its_trainer_s_to_obey(persister: ProcessPersister, tmp_path: Path, stage: Stage) -> None:
    """Sent from its first moment on: a host that is shut down sends them to everybody."""
    persister.prepare()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid_of(persister), number)
    pid = await_started(persister, stage, tmp_path)
    persister.submit(job(attempt_id(10)), stage(shard(10)))
    persister.prepare()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    persist_rank(LocalBackend(tmp_path), attempt_id(10), rank=1)
    assert persister.wait(20)
    assert persister.outcome() == Outcome(10, committed=True)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_shared_memory_that_is_shorter_than_was_said_is_an_outcome(persister: ProcessPersister, stage: Stage) -> None:
    staged = stage(bytes(4096))
    longer = Staged(descriptor=staged.descriptor, view=memoryview(bytes(8192)))
    persister.submit(job(attempt_id(10)), longer)
    assert persister.wait(20)
    assert persister.outcome() == Outcome(10, failed="OSError: [Errno 75] the staged memory has 4096 bytes, not 8192")


def test_a_job_of_any_size_reaches_it(persister: ProcessPersister, tmp_path: Path, stage: Stage) -> None:
    metrics: dict[str, Number] = {f"accuracy/class-{number}": number / 7 for number in range(20_000)}
    progress = Progress(epoch=0, step=10, samples=80, metrics=metrics)
    assert len(json.dumps(metrics)) > 500_000
    persister.submit(job(attempt_id(10), world_size=1, progress=progress), stage(shard(10, 0, 1)))
    assert persister.wait(20)
    assert persister.outcome() == Outcome(10, committed=True)


@pytest.mark.parametrize(
    "garbage", [b"not JSON", b'{"kind": "errand"}', b'{"kind":"released","number":1}', b"x" * 99_999]
)
def test_garbage_on_the_socket_ends_it_with_one_line_after_its_work(
    tmp_path: Path, stage: Stage, garbage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    persister = ProcessPersister(str(tmp_path), rank=0)
    pid = await_started(persister, stage, tmp_path)
    persister.submit(job(attempt_id(10)), stage(shard(10)))
    assert persister._life is not None
    persister._life.end.send(garbage)
    persist_rank(LocalBackend(tmp_path), attempt_id(10), rank=1)
    wait_until(lambda: not alive(pid))
    persister.close()
    assert persister.outcome() == Outcome(10, committed=True)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("relight: the persister does not understand its trainer: ")


def mapped(pid: int) -> list[str]:
    """The shared memory that a process maps, by inode."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line.split()[4] for line in lines if "memfd:relight" in line]


def test_memory_is_mapped_once_and_no_longer_than_its_trainer_holds_it(
    persister: ProcessPersister, tmp_path: Path, stage: Stage
) -> None:
    old, new = Stage(), stage(shard(20, 0, 1))
    first = old(shard(10, 0, 1))
    for step in range(10, 20):
        persister.submit(job(attempt_id(step), world_size=1), first)
        assert persister.wait(20)
    pid = pid_of(persister)
    assert mapped(pid) == [str(os.fstat(first.descriptor).st_ino)]
    first.view.release()
    old.close()
    persister.submit(job(attempt_id(20), world_size=1), new)
    assert persister.wait(20)
    assert mapped(pid) == [str(os.fstat(new.descriptor).st_ino)]


def test_a_lock_on_the_memory_is_held_as_long_as_it_is_read_and_no_longer(
    persister: ProcessPersister, tmp_path: Path, stage: Stage
) -> None:
    """The lock belongs to the open file, which trainer and persister share; whoever comes next asks by another one."""
    whole = stage(shard(20))
    address = f"/proc/self/fd/{whole.descriptor}"
    locked, asking = os.open(address, os.O_RDWR), os.open(address, os.O_RDONLY)
    fcntl.flock(locked, fcntl.LOCK_EX)
    persister.submit(job(attempt_id(10)), stage(shard(10)))
    persister.submit(job(attempt_id(20)), Staged(descriptor=locked, view=whole.view))
    os.close(locked)  # As a trainer that has died.

    def is_free() -> bool:
        try:
            fcntl.flock(asking, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    assert not is_free()
    persister.cancel(10, "enough")
    persist_rank(LocalBackend(tmp_path), attempt_id(20), rank=1)
    wait_until(is_free)
    assert persister.wait(20)
    os.close(asking)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_of_it(tmp_path: Path, stage: Stage) -> None:
    staged = stage(shard(10, 0, 1))
    before, open_before = descendants(os.getpid()), open_files()
    persister = ProcessPersister(str(tmp_path), rank=0)
    persister.submit(job(attempt_id(10), world_size=1), staged)
    (me,) = living.everyone(str(tmp_path))
    assert me.path.exists()
    persister.close()
    assert descendants(os.getpid()) == before
    assert not me.path.exists()
    assert open_files() == open_before
