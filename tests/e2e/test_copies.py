"""cp and gc beside real training: neither disturbs a run at work, and a copy goes on to the same end."""

from __future__ import annotations

from pathlib import Path

from relight.tests.e2e.running import Run, started
from relight.tests.verbs.door import Door
from relight.tests.waiting import wait_until


def test_a_run_at_work_is_tidied_and_copied_from_and_both_come_to_the_same_end(
    undisturbed: Run, folder: Path, door: Door
) -> None:
    run, rounds = Run(folder, "checkpoint.every=4", "checkpoint.keep_last=9"), 0
    with started(run) as process:
        run.await_step(6)
        wait_until(lambda: bool(run.committed()), deadline_s=100, what="a checkpoint")
        while process.poll() is None:
            collected = door("gc", run.url, "--keep-last", "1", "--yes")
            assert (collected.code, collected.err) == (0, ""), collected
            copied = door("cp", run.url, folder / f"copy-{rounds}")
            assert (copied.code, copied.err) == (0, ""), copied
            into = door("cp", folder / "copy-0", run.url)  # Refused while it is at work, unless nothing is to be done.
            assert into.code == 0 or "is working on it" in into.err, into
            rounds += 1
        assert process.wait() == 0, run.text
    print(f"gc and cp beside training: {rounds} rounds")
    assert rounds >= 1
    assert run.digest() == undisturbed.digest()
    for number in range(rounds):
        assert door("verify", folder / f"copy-{number}").code == 0
    _goes_on_from_its_copy(run, folder / "copy-0", undisturbed)


def _goes_on_from_its_copy(run: Run, copy: Path, undisturbed: Run) -> None:
    run.address = str(copy)
    step = run.committed()[0]["step"]
    assert step < 64
    assert run.finish(f"storage.url={copy}") == 0, run.text
    assert f"resumed from step {step} " in run.text
    assert run.digest() == undisturbed.digest()
