"""Hosts on one machine: network namespaces on a bridge, each with its own name, address and loopback.

What they share with each other is the machine's filesystem, as hosts share a mounted directory.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_NUMBERS: Final = itertools.count(1)
_BECOME: Final = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@dataclass(frozen=True)
class Host:
    name: str
    namespace: str
    address: str
    switch: str
    port: str
    """Its end of the cable at the switch."""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, command: Sequence[str | Path], output: Path, **options: object) -> subprocess.Popen[bytes]:
        """A process on this host, in a session of its own; what it says is appended to `output`."""
        inside = ["ip", "netns", "exec", self.namespace, *_BECOME, self.name, *map(str, command)]
        with output.open("ab") as said:
            process = subprocess.Popen(  # type: ignore[call-overload]
                inside, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, **options
            )
        self.started.append(process)
        return process  # type: ignore[no-any-return]

    def cut(self) -> None:
        """Pull the cable: nothing comes through any more, and nobody is told."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def heal(self) -> None:
        _ip("-n", self.switch, "link", "set", self.port, "up")

    def pids(self) -> list[int]:
        """Everything that runs on it."""
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        return [int(word) for word in listed.stdout.split()]

    def die(self) -> None:
        """The power is gone: first the cable, so that no connection is closed, then all that runs."""
        self.cut()
        self.kill_all()

    def kill_all(self) -> None:
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self.started:
            process.wait()


class Network:
    def __init__(self) -> None:
        self._tag = f"relight-{os.getpid()}-{next(_NUMBERS)}"
        self._switch = f"{self._tag}-switch"
        self.hosts: list[Host] = []
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")

    def host(self, name: str) -> Host:
        """A new one, with the next address."""
        number = len(self.hosts) + 1
        host = Host(name, f"{self._tag}-{name}", f"10.77.0.{number}", self._switch, f"port{number}")
        _ip("netns", "add", host.namespace)
        self.hosts.append(host)
        _ip(
            "link", "add", host.port, "netns", self._switch, "type", "veth",
            "peer", "name", "eth0", "netns", host.namespace,
        )  # fmt: skip
        _ip("-n", self._switch, "link", "set", host.port, "master", "bridge", "up")
        _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", host.namespace, "link", "set", device, "up")
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.kill_all()
            _ip("netns", "del", host.namespace)
        _ip("netns", "del", self._switch)


@contextmanager
def network() -> Iterator[Network]:
    """Whatever happens, nothing of it is left behind."""
    made = Network()
    try:
        yield made
    finally:
        made.close()
