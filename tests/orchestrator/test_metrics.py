"""The metrics page: valid by the format, true, and never in the run's way."""

from __future__ import annotations

import http.client
import re
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest

from relight.orchestrator.accounting.keeping import Bookkeeper
from relight.orchestrator.metrics import CONTENT_TYPE, page, served
from relight.tests.orchestrator.recorded import Recorded

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (-?[0-9.]+(?:e[-+]?[0-9]+)?)")


def scraped(text: str) -> dict[str, float]:
    """Samples by `name{labels}`; every line must be what the text exposition format allows."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in {"counter", "gauge"}
            assert kinds.setdefault(name, kind) is kind, f"{name} has two types"
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample is not None, line
        assert sample[1] in kinds, f"{line} comes before its type"
        key = sample[1] + (f"{{{sample[2]}}}" if sample[2] else "")
        assert key not in found, f"{key} is told twice"
        found[key] = float(sample[3])
    return found


def _facts() -> dict[str, Any]:
    life = Recorded("aaa", 1000.0)
    life.launch()
    life.train(1, 10)
    life.fail(1, step=10)
    life.train(7, 12, resumed=6)
    return life.keeper.facts()


def test_the_page_is_valid_and_says_what_is_booked() -> None:
    samples = scraped(page(_facts(), {"run": "a"}))
    assert samples["relight_step"] == 12
    assert samples["relight_attempt"] == 2
    assert samples['relight_failures_total{class="killed"}'] == 1
    assert samples["relight_restarts_total"] == 1
    assert samples["relight_steps_redone_total"] == 4
    assert samples['relight_seconds_total{category="lost_work"}'] == 5
    by_category = [value for key, value in samples.items() if key.startswith("relight_seconds_total{")]
    assert len(by_category) == 7
    assert sum(by_category) == pytest.approx(samples["relight_wall_seconds_total"])
    assert samples["relight_goodput_ratio"] == pytest.approx(11 / 20, abs=1e-6)


def test_a_name_with_anything_in_it_does_not_break_the_page() -> None:
    samples = scraped(page(_facts(), {"run": 'a\\b "c"\nd'}))
    assert samples['relight_info{run="a\\\\b \\"c\\"\\nd"}'] == 1


def test_the_page_is_there_before_anything_has_happened() -> None:
    samples = scraped(page(Bookkeeper(clock=lambda: 0).facts(), {}))
    assert (samples["relight_step"], samples["relight_goodput_ratio"]) == (-1, 0)


def _port_said(said: list[str]) -> int:
    match = re.fullmatch(r"metrics at http://127.0.0.1:([0-9]+)/metrics", said[0])
    assert match is not None
    return int(match[1])


def test_it_is_served_for_as_long_as_the_run_lives() -> None:
    said: list[str] = []
    with served("127.0.0.1:0", lambda: "relight_step 1\n", said.append):
        address = f"http://127.0.0.1:{_port_said(said)}"
        with urllib.request.urlopen(f"{address}/metrics?x=1", timeout=10) as answer:
            assert (answer.read(), answer.headers["Content-Type"]) == (b"relight_step 1\n", CONTENT_TYPE)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{address}/favicon.ico", timeout=10)
        caught.value.close()
        assert caught.value.code == 404
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{address}/metrics", timeout=10)


def test_a_client_that_says_nothing_keeps_no_other_waiting(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with served("127.0.0.1:0", lambda: "relight_step 1\n", said.append):
        port = _port_said(said)
        with socket.create_connection(("127.0.0.1", port)) as mute:
            mute.send(b"GET")
            asking = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            asking.request("GET", "/metrics")
            assert asking.getresponse().read() == b"relight_step 1\n"
            asking.close()
    assert capfd.readouterr() == ("", "")


def test_a_port_in_use_is_said_once_and_the_run_goes_on() -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with served(address, str, said.append):
            pass
    assert len(said) == 1
    assert said[0].startswith(
        f"metrics.prometheus: {address} cannot be had, the run goes on without its metrics page: [Errno 98] "
    )


def test_an_address_of_version_6_is_understood() -> None:
    said: list[str] = []
    with served("[::1]:0", lambda: "relight_step 1\n", said.append):
        assert re.fullmatch(r"metrics at http://\[::1\]:[0-9]+/metrics|metrics.prometheus: .*", said[0])


def test_without_an_address_nothing_is_served() -> None:
    said: list[str] = []
    with served(None, str, said.append):
        assert not said
