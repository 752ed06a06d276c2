"""Headless Chromium, driven over a pipe by its own protocol: opens a page, runs scripts in it, takes pictures of it.

https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
)


class Tab:
    """One tab; `events` holds all events that the browser has sent about it, oldest first."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.read, self.buffer, self.count = write, read, b"", 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send the browser a command and wait for its answer."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        os.write(self.write, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            part = os.read(self.read, 2**20)
            if not part:
                raise RuntimeError("the browser has ended")
            self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, place: Path) -> None:
        """Load a file and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=place.resolve().as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())

    def run_script(self, script: str) -> Any:
        """Run a script and return its value, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "a script failed"))
        return answer["result"].get("value")

    def set_view(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the window's size in pixels and the preferred colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def save_picture(self, place: Path, *, whole: bool = True) -> None:
        """Write a picture of the page as PNG."""
        place.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))

    def save_pdf(self, place: Path) -> None:
        """Write the page as it is printed, as PDF."""
        place.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"]))

    def list_events(self, *methods: str) -> list[dict[str, Any]]:
        """List the events of some kinds since the page was opened."""
        self.run_script("0")  # its answer comes after all earlier events, so that we have read these by then
        return [e["params"] for e in self.events if e.get("method") in methods]


def find_browser() -> str | None:
    """Return the browser's command, or None if no browser is installed."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


@contextmanager
def open_tab() -> Iterator[Tab]:
    """Start a browser and open a tab in it.

    Raises:
        RuntimeError: if no browser is installed.
    """
    command = find_browser()
    if command is None:
        raise RuntimeError(f"no browser: install one of {', '.join(BROWSERS)}")
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        redirected = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
        words = ["bash", "-c", redirected, "bash", command, *OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        browser = subprocess.Popen([*words, "about:blank"], pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield _attach(Tab(ours_out, ours_in))
        finally:
            browser.kill()
            browser.wait()
            os.close(ours_out)
            os.close(ours_in)


def _attach(tab: Tab) -> Tab:
    target = tab.call("Target.createTarget", url="about:blank")["targetId"]
    tab.session = tab.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        tab.call(f"{domain}.enable")
    return tab
