"""Headless Chromium without network access, controlled through a pipe (DevTools protocol)."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

_NAMES = "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
_FLAGS = (
    "--headless",
    "--no-sandbox",  # Required when tests run as root.
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
_SECONDS = 60
_SHOT_HEIGHT = 4000


class Browser:
    """A browser with one page; `events` collects the protocol's events."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM, "no Chromium"
        read_commands, self._commands = os.pipe()
        self._responses, write_responses = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        shell = f'exec "$0" "$@" 3<&{read_commands} 4>&{write_responses}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(read_commands, write_responses),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_responses)
        self._ids, self._buffer, self._session = itertools.count(1), b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=0,
            uploadThroughput=0,
        )

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._commands)
        os.close(self._responses)

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self._responses], [], [], left)
            assert ready, "Chromium does not respond"
            more = os.read(self._responses, 1 << 20)
            assert more, "Chromium has exited"
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Sends a command of the protocol and returns its result."""
        number = next(self._ids)
        command = {"id": number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + _SECONDS
        while (message := self._message(deadline)).get("id") != number:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def open(self, url: str) -> None:
        """Opens a page and waits until it has loaded."""
        deadline = time.monotonic() + _SECONDS
        seen = len(self.events)
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in [event["method"] for event in self.events[seen:]]:
            self.events.append(self._message(deadline))

    def set_viewport(self, width: int, height: int, scheme: str) -> None:
        """Sets the size of the window and the color scheme, `light` or `dark`."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshots(self, path: Path) -> list[Path]:
        """Screenshots of the whole page from top to bottom, as PNG files next to `path`.

        A single one would be blank below 16,384 pixels.
        """
        width, height = self.evaluate(
            "[document.documentElement.clientWidth, document.body.scrollHeight]"
        )
        paths = []
        for top in range(0, height, _SHOT_HEIGHT):
            clip = {"x": 0, "y": top, "width": width, "height": min(_SHOT_HEIGHT, height - top)}
            taken = self.call(
                "Page.captureScreenshot", captureBeyondViewport=True, clip={**clip, "scale": 1}
            )
            paths.append(path.with_stem(f"{path.stem}-{len(paths)}"))
            paths[-1].write_bytes(base64.b64decode(taken["data"]))
        return paths
