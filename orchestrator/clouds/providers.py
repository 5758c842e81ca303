"""What each cloud's metadata server says when it takes a machine away, as the clouds document it."""

from __future__ import annotations

import json
import math
from typing import Any, Final, Protocol

from .metadata import Missing, NoAnswer, Unauthorized, ask


class Provider(Protocol):
    """One cloud. `notice_s` is how long before the end it says so, in seconds, at the least."""

    name: str
    notice_s: float
    every_s: float
    """How often it wants to be asked."""

    def look(self) -> str | None:
        """Why the machine will be taken away, as far as it has been said; None: it will not.

        Raises:
            NoAnswer: the metadata server cannot be asked.
        """


class Aws:
    """EC2 spot instances (IMDSv2): `spot/instance-action` is there two minutes before the end, and 404 until then."""

    name: str = "aws"
    notice_s: float = 120.0
    every_s: float = 5.0

    def __init__(self, server: str | None = None) -> None:
        self._server = server or "http://169.254.169.254"
        self._token = ""

    def look(self) -> str | None:
        try:
            try:
                text = self._instance_action()
            except Unauthorized:
                self._token = ""
                text = self._instance_action()
        except Missing:
            return None
        action = _document(text)
        if action.get("action") not in ("stop", "terminate", "hibernate"):
            raise NoAnswer(f"spot/instance-action is {text[:200]!r}")
        return f"this spot instance will {action['action']} at {action.get('time', 'an unknown time')}"

    def _instance_action(self) -> str:
        if not self._token:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
            self._token = ask(f"{self._server}/latest/api/token", lifetime, method="PUT")
        credential = {"X-aws-ec2-metadata-token": self._token}
        return ask(f"{self._server}/latest/meta-data/spot/instance-action", credential)


class Gcp:
    """Compute Engine: `preempted` turns TRUE 30 s before the end of a spot VM; a VM with GPUs that cannot migrate is
    announced, an hour before, by `maintenance-event`.
    """

    name: str = "gcp"
    notice_s: float = 30.0
    every_s: float = 1.0

    def __init__(self, server: str | None = None) -> None:
        self._server = server or "http://169.254.169.254"

    def look(self) -> str | None:
        if self._value("preempted") == "TRUE":
            return "this VM is being preempted"
        try:
            event = self._value("maintenance-event")
        except Missing:
            return None
        return "this VM will be terminated for host maintenance" if event == "TERMINATE_ON_HOST_MAINTENANCE" else None

    def _value(self, key: str) -> str:
        url = f"{self._server}/computeMetadata/v1/instance/{key}"
        return ask(url, {"Metadata-Flavor": "Google"}).strip()


class Azure:
    """Scheduled events: a document for the whole scale set, in which an event names the VMs that it is about."""

    name: str = "azure"
    notice_s: float = 30.0
    every_s: float = 1.0

    _ENDINGS: Final = frozenset({"Preempt", "Terminate", "Reboot", "Redeploy"})

    def __init__(self, server: str | None = None) -> None:
        self._server = server or "http://169.254.169.254"
        self._vm = ""

    def look(self) -> str | None:
        self._vm = self._vm or self._ask("instance/compute/name?api-version=2021-02-01&format=text").strip()
        events = _document(self._ask("scheduledevents?api-version=2020-07-01")).get("Events")
        if not isinstance(events, list):
            raise NoAnswer(f"scheduledevents has no list of events: {events!r}")
        for event in filter(_is_event, events):
            if event["EventType"] in self._ENDINGS and self._vm in event["Resources"]:
                when = event.get("NotBefore") or "once"
                return f"{event['EventType']} is scheduled for {self._vm}, not before: {when}"
        return None

    def _ask(self, path: str) -> str:
        return ask(f"{self._server}/metadata/{path}", {"Metadata": "true"})


PROVIDERS: Final[dict[str, type[Aws | Gcp | Azure]]] = {"aws": Aws, "gcp": Gcp, "azure": Azure}


MARGIN_S: Final = 5.0
"""Of a cloud's notice, what is left for seeing it and for ending the process."""


def longest_deadline_s(cloud: str | None) -> float:
    """How long the workers may take to save and end after a notice of this cloud; without one, for ever."""
    return PROVIDERS[cloud].notice_s - MARGIN_S if cloud is not None else math.inf


def _is_event(value: Any) -> bool:
    return isinstance(value, dict) and {"EventType", "Resources"} <= value.keys()


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise NoAnswer(f"not a JSON object: {text[:200]!r}")
    return document
