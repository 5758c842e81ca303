"""Where the other hosts reach this one."""

from __future__ import annotations

import socket

import pytest

from relight.orchestrator.hosts.addresses import interface_of, is_own, own_address


@pytest.mark.parametrize("endpoint", ["localhost:29400", "127.0.0.1:1", "localhost", "[::1]:29400"])
def test_an_endpoint_on_the_loopback_means_that_there_are_no_other_machines(endpoint: str) -> None:
    assert own_address(endpoint, None) == "127.0.0.1"


@pytest.mark.parametrize("endpoint", ["localhost:29400", "10.0.0.1:29400", "/shared/rendezvous"])
def test_what_the_user_says_holds(endpoint: str) -> None:
    assert own_address(endpoint, "10.9.8.7") == "10.9.8.7"


@pytest.mark.parametrize("endpoint", ["/shared/rendezvous", "no-such-host.invalid:29400", "192.0.2.7:29400"])
def test_otherwise_it_is_an_address_of_this_host_that_is_not_the_loopback_or_its_name(endpoint: str) -> None:
    address = own_address(endpoint, None)
    assert address == socket.getfqdn() or interface_of(address) not in ("", "lo")


def test_an_endpoint_is_this_host_s_own_or_not() -> None:
    assert is_own("127.0.0.1:29400")
    assert is_own("localhost")
    assert not is_own("192.0.2.7:29400")
    assert not is_own("no-such-host.invalid:29400")


def test_the_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.7") == ""
    assert interface_of("a-name") == ""
