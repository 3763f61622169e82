"""A headless Chromium spoken to through a pipe: no driver program, no library, no network port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 90.0
OUR_OWN_DOING = "Canvas2D: Multiple readback"  # the tests look at canvases, pages do not


def find_chromium() -> str | None:
    """The program, by CHROMIUM or by its usual names."""
    wanted = os.environ.get("CHROMIUM")
    return wanted or next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One process; it keeps its profile (localStorage) in a folder, so it can be closed and come back."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage",
            "--hide-scrollbars", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip

        def wire() -> None:  # Chromium listens on 3 and answers on 4
            a, b = os.dup(to_browser), os.dup(from_browser)
            a, b = (fd if fd > 4 else os.dup(os.dup(os.dup(fd))) for fd in (a, b))
            os.dup2(a, 3)
            os.dup2(b, 4)

        self._process = subprocess.Popen(
            [program, *options], close_fds=False,
            preexec_fn=wire,  # noqa: PLW1509 (no threads here)
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._buffer, self.events = 0, b"", []

    def call(self, method: str, session: str | None = None, **params) -> dict:
        """Send a command and wait for its answer; events that come first are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict:
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._read, 1 << 20) if ready else b""
            if not chunk:
                raise RuntimeError("Chromium does not answer")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path, width: int = 1440, height: int = 900) -> Page:
        """Open a file by its file:// address and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        found = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            found.call(f"{domain}.enable")
        found.resize(width, height)
        found.go(page)
        return found

    def close(self) -> None:
        """End it in its own way, so that the profile is on disk."""
        try:
            self.call("Browser.close")
        except RuntimeError:
            self._process.kill()
        self._process.wait(20)
        os.close(self._write)
        os.close(self._read)


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **params) -> dict:
        return self._browser.call(method, self._session, **params)

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def go(self, page: Path) -> None:
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def reload(self) -> None:
        self.run("window.__old = true")
        self.call("Page.reload")
        self.wait("document.readyState === 'complete' && !window.__old")

    def run(self, script: str):
        """The value of a JavaScript expression."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str, patience_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + patience_s
        while not self.run(condition):
            if time.monotonic() > end:
                raise RuntimeError(f"never true: {condition}; troubles: {self.troubles()}")
            time.sleep(0.05)

    def click(self, selector: str, part=(0.5, 0.5), button: str = "left") -> None:
        """Press the mouse on an element, at a part of its box."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]; })()"
        )
        place = {"x": box[0] + part[0] * box[2], "y": box[1] + part[1] * box[3]}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button=button, clickCount=1, **place)

    def press(self, key: str) -> None:
        """Press and release one key."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, words: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=words)

    def troubles(self) -> list[str]:
        """Every console error, exception and network request so far."""
        self.run("1")
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            params, method = event.get("params", {}), event.get("method")
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"].get("exception", params)))
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                text = params["entry"]["text"]
                found += [] if text.startswith(OUR_OWN_DOING) else [text]
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                text = str(params["args"])
                found += [] if OUR_OWN_DOING in text else [text]
            elif method == "Network.requestWillBeSent":
                address = params["request"]["url"]
                if not address.startswith(("file:", "data:", "blob:")):
                    found.append(f"asks the network for {address}")
        return found

    def screenshot(self, path: Path) -> Path:
        picture = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(picture))
        return path

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
