"""A headless Chromium that is spoken to over a pipe: opens a page, looks at it, and hears its console.

from relight.tests.orchestrator.reporting.browser import Browser
"""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

DEADLINE_S: Final = 60.0
_FLAGS: Final = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--remote-debugging-pipe", "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@dataclass
class Browser:
    """`complaints`: what the console was told and every request for something that is not the page itself."""

    process: subprocess.Popen[bytes]
    write: int
    read: int
    complaints: list[str] = field(default_factory=list)
    session: str = ""
    _number: int = 0
    _buffer: bytes = b""

    def open(self, page: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        self.complaints.clear()
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + DEADLINE_S
        while self.evaluate("document.readyState + location.href") != f"complete{page.as_uri()}":
            assert time.monotonic() < deadline, "the page was not loaded"

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Of the whole page: rows of pixels, red, green and blue."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB"))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        os.write(
            self.write, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0"
        )
        while True:
            heard = self._hear()
            if heard.get("id") == self._number:
                assert "error" not in heard, heard
                result: dict[str, Any] = heard["result"]
                return result

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self.read], [], [], DEADLINE_S)[0], "chromium says nothing"
            self._buffer += (data := os.read(self.read, 1 << 20))
            assert data, "chromium is gone"
        line, _, self._buffer = self._buffer.partition(b"\0")
        heard: dict[str, Any] = json.loads(line)
        told = heard.get("params", {})
        match heard.get("method"):
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.complaints.append(json.dumps(told))
            case "Network.requestWillBeSent" if told["documentURL"] != told["request"]["url"]:
                self.complaints.append(told["request"]["url"])
        return heard


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """`folder` is its home."""
    program = shutil.which("chromium")
    assert program is not None
    theirs_in, write = os.pipe()
    read, theirs_out = os.pipe()
    # It speaks on descriptors 3 and 4, whatever they are here.
    shell = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", shell, "chromium", program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        browser = Browser(process, write, read)
        target = next(each for each in _targets(browser) if each["type"] == "page")["targetId"]
        browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.call(f"{domain}.enable")
        yield browser
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(write)
        os.close(read)


def _targets(browser: Browser) -> list[dict[str, Any]]:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found: list[dict[str, Any]] = browser.call("Target.getTargets")["targetInfos"]
        if any(each["type"] == "page" for each in found):
            return found
        assert time.monotonic() < deadline, "chromium opened no page"
