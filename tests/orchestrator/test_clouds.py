"""A cloud's notice is seen, for this machine and no other, and reaches the launcher as any other notice does."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import pytest

from relight.orchestrator.clouds import providers
from relight.orchestrator.clouds.metadata import NoAnswer
from relight.orchestrator.clouds.watcher import CloudWatcher
from relight.orchestrator.notices import Notices, wait_for_any
from relight.tests.orchestrator.metadata_servers import Aws, Azure, Cloud, Gcp, Talker, served
from relight.tests.waiting import wait_until

CLOUDS = [("aws", Aws), ("gcp", Gcp), ("azure", Azure)]


@pytest.mark.parametrize(("name", "cloud"), CLOUDS)
def test_a_machine_that_is_to_stay_gets_no_notice_and_one_that_is_to_go_does(
    name: str, cloud: Callable[[], Cloud]
) -> None:
    metadata = cloud()
    with served(metadata) as server:
        provider = providers.PROVIDERS[name](server)
        assert provider.look() is None
        assert provider.look() is None
        metadata.take_away()
        assert provider.look()


def test_a_token_that_has_run_out_is_replaced_by_a_new_one() -> None:
    metadata = Aws()
    with served(metadata) as server:
        provider = providers.Aws(server)
        assert provider.look() is None
        metadata.let_tokens_run_out()
        metadata.take_away()
        assert provider.look() == "this spot instance will terminate at 2026-01-01T08:22:00Z"


def test_an_event_for_another_machine_of_the_scale_set_is_not_for_this_one() -> None:
    metadata = Azure()
    with served(metadata) as server:
        provider = providers.Azure(server)
        metadata.take_away("another-vm")
        metadata.take_away(kind="Freeze")  # A pause of seconds: the machine stays.
        assert provider.look() is None
        metadata.take_away()
        assert provider.look() == "Preempt is scheduled for this-vm, not before: Mon, 19 Sep 2016 18:29:47 GMT"


def test_a_machine_that_will_be_moved_alive_stays() -> None:
    metadata = Gcp(maintenance="MIGRATE_ON_HOST_MAINTENANCE")
    with served(metadata) as server:
        provider = providers.Gcp(server)
        assert provider.look() is None
        metadata.maintenance = "TERMINATE_ON_HOST_MAINTENANCE"
        assert provider.look() == "this VM will be terminated for host maintenance"


NONSENSE = ["", "[]", "no json", '{"Events": 7}', '{"Events": [7, {}]}', '{"action": []}', "\x00"]


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("name", [name for name, _ in CLOUDS])
def test_nonsense_is_no_notice(name: str, text: str) -> None:
    with served(Talker(text)) as server, suppress(NoAnswer):
        assert providers.PROVIDERS[name](server).look() is None


@pytest.mark.parametrize(("name", "cloud"), CLOUDS)
def test_a_notice_reaches_the_launcher_as_a_signal_and_is_said_and_recorded_once(
    name: str, cloud: Callable[[], Cloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers.PROVIDERS[name], "every_s", 0.01)
    said: list[str] = []
    recorded: list[tuple[str, dict[str, Any]]] = []
    metadata = cloud()
    with served(metadata) as server, closing(Notices()) as notices:
        provider = providers.PROVIDERS[name](server)
        watcher = CloudWatcher(provider, said.append, lambda event, **facts: recorded.append((event, facts)))
        with closing(watcher):
            watcher.start()
            metadata.take_away()
            wait_for_any(notices, timeout_s=30)
            assert notices.take() == [signal.SIGTERM]
    assert [event for event, _ in recorded] == ["noticed"]
    assert recorded[0][1]["source"] == name
    assert len(said) == 1
    assert said[0].startswith(f"{name}: ")


def test_a_metadata_server_that_does_not_answer_is_said_once_and_asked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers.Gcp, "every_s", 0.01)
    with served(Gcp()) as server:
        nobody = server
    said: list[str] = []
    recorded: list[str] = []
    with closing(Notices()) as notices:
        watcher = CloudWatcher(providers.Gcp(nobody), said.append, lambda event, **_: recorded.append(event))
        with closing(watcher):
            watcher.start()
            wait_until(lambda: said, deadline_s=30, what="a word about the silence")
        assert notices.take() == []
    assert recorded == ["cloud silent"]
    assert "does not answer" in said[0]
