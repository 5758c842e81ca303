"""Where the other hosts reach this one."""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Any, Final

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
_ANYWHERE: Final = "192.0.2.1"
"""An address that is kept for documentation: the route to it is the default route."""
_SIOCGIFADDR: Final = 0x8915


def own_address(endpoint: str, local_addr: str | None) -> str:
    """`--local-addr`, or the address with which this host talks to `endpoint`, be it HOST:PORT, HOST or a file's path.

    An endpoint on the loopback means that there are no other machines.
    """
    if local_addr:
        return local_addr
    host = _host_of(endpoint)
    if host in _LOOPBACK:
        return "127.0.0.1"
    return _address_towards(host or _ANYWHERE) or socket.getfqdn()


def is_own(endpoint: str) -> bool:
    """Whether the endpoint is on this host."""
    try:
        family, kind, protocol, _, there = _resolve(_host_of(endpoint))
        with socket.socket(family, kind, protocol) as probe:
            probe.bind((there[0], 0))
    except OSError:
        return False
    return True


def _host_of(endpoint: str) -> str:
    """Empty for a file's path."""
    return "" if "/" in endpoint else endpoint.rpartition(":")[0] or endpoint


def _resolve(host: str) -> tuple[int, int, int, str, Any]:
    return socket.getaddrinfo(host.strip("[]"), 9, type=socket.SOCK_DGRAM)[0]


def _address_towards(host: str) -> str:
    """Empty where there is no way, or none that leaves this machine."""
    try:
        family, kind, protocol, _, there = _resolve(host)
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(there)  # Nothing is sent.
            address: str = probe.getsockname()[0]
    except OSError:
        return ""
    return "" if address.startswith("127.") or address == "::1" else address


def interface_of(address: str) -> str:
    """The network interface that has this IPv4 address; empty when there is none.

    Gloo looks for its own address by the host's name, which on many machines leads to the loopback.
    """
    for _, name in socket.if_nameindex():
        request = struct.pack("256s", name.encode()[:15])
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, request)
        except OSError:  # It has no IPv4 address.
            continue
        if socket.inet_ntoa(answer[20:24]) == address:
            return name
    return ""
