"""A headless Chromium for tests, by the DevTools protocol over a pipe: no driver and no package needed."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Chromium speaks on descriptors 3 and 4: put what was inherited there, and become it.
_BECOME = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);"
    " os.execv(sys.argv[3], sys.argv[3:])"
)


def find() -> str | None:
    """The browser that CHROMIUM names, or one on the PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser: commands go out, replies and events come back, as JSON ended by a 0."""

    def __init__(self, out: int, into: int):
        self.out, self.into = out, into
        self.events: list[dict] = []
        self.waiting, self.number, self.session = b"", 0, None

    def send(self, method: str, **parameters) -> dict:
        """Gives a command and returns its result; events that come meanwhile are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method: str) -> None:
        """Waits until an event has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._receive())

    def _receive(self) -> dict:
        while b"\0" not in self.waiting:
            piece = os.read(self.into, 1 << 20)
            assert piece, "the browser ended"
            self.waiting += piece
        message, self.waiting = self.waiting.split(b"\0", 1)
        return json.loads(message)

    def open(self, path: Path, width: int, height: int = 800, scheme: str = "light") -> None:
        """Opens a file in a page of that width, and waits until it is drawn."""
        self.events.clear()
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def evaluate(self, expression: str):
        """The value of a JavaScript expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def requests(self) -> list[str]:
        """The addresses that the page asked for since it was opened."""
        return [
            e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[dict]:
        """What the console, the log and uncaught exceptions said since the page was opened."""
        spoken = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in spoken]

    def screenshot(self, path: Path) -> None:
        """Writes a PNG of the whole page."""
        image = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(image))


@contextlib.contextmanager
def start(program: str, folder: Path) -> Iterator[Browser]:
    """Starts a browser whose profile lies in a folder of its own; ends it, and nothing else."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # Out of the way of 3 and 4, on which the browser listens.
    given = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (theirs_in, theirs_out)]
    options = [
        "--headless=new",
        "--remote-debugging-pipe",
        "--disable-gpu",
        "--no-first-run",
        "--disable-dev-shm-usage",
    ]
    options += [
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
        "--disable-background-networking",
    ]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []  # as root there is none
    command = [sys.executable, "-c", _BECOME, *map(str, given), program, *options, "about:blank"]
    process = subprocess.Popen(
        command, pass_fds=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    for descriptor in (theirs_in, theirs_out, *given):
        os.close(descriptor)
    browser = Browser(ours_out, ours_in)
    try:
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        browser.session = session
        for domain in ("Page", "Network", "Runtime", "Log"):
            browser.send(f"{domain}.enable")
        yield browser
    finally:
        browser.session = None
        with contextlib.suppress(OSError, AssertionError):
            browser.send("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        process.wait()
        os.close(ours_out)
        os.close(ours_in)
        time.sleep(0.1)  # its own processes let go of the profile
