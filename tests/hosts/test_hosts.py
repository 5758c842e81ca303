"""Hosts come, leave, are cut off and die; the run goes on, and where its size is kept it ends the same."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from relight.configs.protocol import ExitCode
from relight.tests.hosts.network import Network
from relight.tests.hosts.spread import STEPS, Spread, meeting_at, meeting_in

pytestmark = [pytest.mark.needs("ip", "unshare", "root"), pytest.mark.timeout(300)]

Tell = Callable[[str], None]


def assert_all_was_trained_once(run: Spread, undisturbed: Spread) -> None:
    assert run.steps_done() == STEPS
    assert run.seen() == undisturbed.seen()


def assert_the_same(run: Spread, undisturbed: Spread) -> None:
    assert_all_was_trained_once(run, undisturbed)
    for rank in (0, 1):
        losses, wanted = run.losses(rank), undisturbed.losses(rank)
        assert losses == {step: wanted[step] for step in losses}
    assert run.digest() == undisturbed.digest()


def test_a_host_comes_in_and_leaves_and_no_step_is_lost(
    hosts: Network, tmp_path: Path, undisturbed: Spread, tell: Tell
) -> None:
    run = Spread(tmp_path)
    one, two = hosts.host("one"), hosts.host("two")
    meeting = ("--nnodes=1:2", *meeting_at(one))
    first = run.start_on(one, *meeting)
    run.await_steps(5)

    second = run.start_on(two, *meeting)
    asked_s = run.await_line(one, "told to stop: saved step")
    joined_s = run.await_steps(1, rank=1)
    tell(
        f"a host joins: {asked_s:.1f} s from its start until the run has saved, {joined_s:.1f} s more until both train"
    )
    assert "starting again together: another host comes in" in run.said_on(one)
    run.await_steps(5)

    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == ExitCode.PREEMPTED, run.text
    left_s = run.await_steps(1)
    tell(f"a host leaves: {left_s:.1f} s from its end until the other trains on")
    assert "starting again together: two: stopped by SIGTERM" in run.said_on(one)
    assert first.poll() is None

    run.hurry()
    assert first.wait(90) == ExitCode.FINISHED, run.text
    assert_all_was_trained_once(run, undisturbed)
    said = run.said_on(one)
    assert saved_steps(said) == resumed_steps(said), "what was saved is what was gone on from"
    assert run.steps_taken() == STEPS, "a step was done twice"
    assert "restarting" not in run.text


def saved_steps(said: str) -> list[int]:
    return [
        int(line.split("saved step ")[1].split(".")[0]) for line in said.splitlines() if "told to stop: saved" in line
    ]


def resumed_steps(said: str) -> list[int]:
    return [int(line.split("resumed from step ")[1].split()[0]) for line in said.splitlines() if "resumed from" in line]


@pytest.mark.soak
def test_the_host_of_the_rendezvous_dies_and_comes_back(
    hosts: Network, tmp_path: Path, undisturbed: Spread, tell: Tell
) -> None:
    run = Spread(tmp_path)
    one, two = hosts.host("one"), hosts.host("two")
    _, second = (run.start_on(host, "--nnodes=2", *meeting_at(one)) for host in (one, two))
    run.await_steps(25)

    one.die()
    noticed_s = run.await_line(two, "starting again together: rendezvous 'job' at .*: no answer for")
    tell(f"the rendezvous is gone: noticed after {noticed_s:.1f} s")
    one.heal()
    first = run.start_on(one, "--nnodes=2", *meeting_at(one))
    back_s = run.await_steps(1)
    tell(f"it is back: {back_s:.1f} s from its start until both train")
    run.hurry()
    assert [first.wait(90), second.wait(90)] == [ExitCode.FINISHED] * 2, run.text
    assert_the_same(run, undisturbed)


@pytest.mark.soak
def test_where_the_rendezvous_does_not_come_back_the_others_say_so_and_end_with_code_75(
    hosts: Network, tmp_path: Path
) -> None:
    run = Spread(tmp_path)
    one, two = hosts.host("one"), hosts.host("two")
    patience = "--rdzv-conf=join_timeout=5,read_timeout=5"
    _, second = (run.start_on(host, "--nnodes=2", *meeting_at(one), patience) for host in (one, two))
    run.await_steps(5)
    one.die()
    assert second.wait(60) == ExitCode.PREEMPTED, run.text
    said = run.said_on(two)
    assert "is lost; it is tried again for 5 s. With --rdzv-conf=store_type=file and a path" in said
    assert said.rstrip().endswith("; run the same command again")


def test_a_host_that_is_cut_off_is_noticed_and_replaced(
    hosts: Network, tmp_path: Path, undisturbed: Spread, tell: Tell
) -> None:
    run = Spread(tmp_path)
    one, two, three = (hosts.host(name) for name in ("one", "two", "three"))
    meeting = ("--nnodes=2", *meeting_at(one))
    first, cut_off = run.start_on(one, *meeting), run.start_on(two, *meeting)
    run.await_steps(25)

    two.cut()
    noticed_s = run.await_line(one, "starting again together: two is lost: nothing was heard of it for")
    tell(f"a host is cut off: noticed after {noticed_s:.1f} s")
    alone_s = run.await_line(two, "starting again together: rendezvous 'job' at .*: no answer for")
    tell(f"a host is cut off: it knows {alone_s:.1f} s after that")

    third = run.start_on(three, *meeting)
    replaced_s = run.await_steps(1)
    tell(f"a host is replaced: {replaced_s:.1f} s from the new one's start until both train")
    run.hurry()
    assert [first.wait(90), third.wait(90)] == [ExitCode.FINISHED] * 2, run.text
    assert_the_same(run, undisturbed)

    cut_off.send_signal(signal.SIGTERM)
    assert cut_off.wait(30) == ExitCode.PREEMPTED, run.text


def test_the_host_of_the_rendezvous_dies_and_a_shared_directory_keeps_it(
    hosts: Network, tmp_path: Path, undisturbed: Spread, tell: Tell
) -> None:
    run = Spread(tmp_path)
    one, two, three = (hosts.host(name) for name in ("one", "two", "three"))
    _, second = (run.start_on(host, "--nnodes=2", *meeting_in(tmp_path, host)) for host in (one, two))
    run.await_steps(25)

    one.die()
    noticed_s = run.await_line(two, "starting again together: one is lost")
    tell(f"the first host dies: noticed after {noticed_s:.1f} s")
    third = run.start_on(three, "--nnodes=2", *meeting_in(tmp_path, three))
    replaced_s = run.await_steps(1)
    tell(f"a host is replaced: {replaced_s:.1f} s from the new one's start until both train")
    run.hurry()
    assert [second.wait(90), third.wait(90)] == [ExitCode.FINISHED] * 2, run.text
    assert_the_same(run, undisturbed)
