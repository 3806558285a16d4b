"""A headless Chromium, driven by its own protocol over a pair of pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest


def chromium() -> str:
    """The program; skips the test where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium; install the system's package of that name")
    return program


def _on_every_core() -> None:
    """Lets a browser run where it likes: bound to one core, its processes wait for each other without an end."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


class Page:
    """A page, everything it asked the network for and everything it complained about.

    Args:
        path: of the HTML file.
        profile: folder for the browser's own files.
        dark: whether the reader prefers dark pages.
    """

    def __init__(self, path: Path, profile: Path, dark: bool = False) -> None:
        program = chromium()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._last = 0
        self._session: str | None = None
        (their_in, self._out), (self._in, their_out) = os.pipe(), os.pipe()
        # The browser reads from descriptor 3 and writes to 4.
        self._process = subprocess.Popen(
            [
                "bash", "-c", f'exec "$@" 3<&{their_in} 4>&{their_out}', "bash", program, "--headless",
                "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                f"--user-data-dir={profile}", "about:blank",
            ],
            pass_fds=(their_in, their_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=_on_every_core,
        )  # fmt: skip
        os.close(their_in)
        os.close(their_out)
        self._reader = os.fdopen(self._in, "rb")
        try:
            self._open(path, dark)
        except BaseException:  # pytest-timeout's too: a browser that hangs would keep a core busy for ever
            self._kill()
            raise

    def _open(self, path: Path, dark: bool) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=1400, height=1000, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.open(path)

    def open(self, path: Path) -> None:
        """Goes to another page, with the same window."""
        self.send("Page.navigate", url=path.as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._out)
        try:
            self._process.wait(30)  # it ends when its pipe is closed
        except subprocess.TimeoutExpired:
            self._kill()
        self._reader.close()

    def _kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def send(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol and its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Writes the whole page as PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _receive(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._reader.read(1)) != b"\0":
            assert byte, "the browser ended"
            text += byte
        message: dict[str, Any] = json.loads(text)
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(parameters))
        return message
