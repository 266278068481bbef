"""A headless Chromium over its debugging pipe, for tests of pages, by the standard library alone.

    require()
    with Chromium(profile) as browser:
        seen = browser.open(url, width=390, dark=True)
        with browser.tab(url) as tab:
            tab.press("Tab")
            tab.until("document.activeElement.id === 'file'")

The pages are opened as they are: nothing is added to them.
"""

import base64
import contextlib
import functools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
_LOOK = """({
  images: [...document.images].map(i => [i.alt, i.naturalWidth, i.currentSrc.slice(0, 30)]),
  wide: document.documentElement.scrollWidth,
  inner: window.innerWidth,
  anchors: [...document.querySelectorAll('nav a')].map(a => !!document.querySelector(a.hash)),
  headings: [...document.querySelectorAll('h1, h2, h3, h4')].map(h => h.textContent),
  scrolls: [...document.querySelectorAll('.scroll, figure')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText || e.ariaLabel),
  background: getComputedStyle(document.body).backgroundColor,
})"""


def require() -> None:
    """Skips a test where there is no browser; where CI=true, which installs one, fails it."""
    if PROGRAM is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no Chromium here")


class Seen(NamedTuple):
    """A page as the browser shows it."""

    page: dict[str, Any]
    """What _LOOK finds: images (alt, naturalWidth, source), widths, headings, ..."""
    requests: list[str]
    messages: list[str]
    """What the console says: errors, warnings, refusals of the page's policy."""
    screenshot: bytes
    """A PNG of the whole page."""


_SAID = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
_KEYS = {"Tab": 9, "Enter": 13, "Space": 32, "ArrowRight": 39}


class Tab(NamedTuple):
    """A page that is open."""

    call: Callable[..., dict[str, Any]]
    """A method of the debugging protocol, and its parameters."""
    events: Sequence[dict[str, Any]]
    """What the page has done since it was opened."""

    def evaluate(self, expression: str) -> Any:
        """The value of an expression there; promises are waited for, errors raised."""
        done = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            allowUnsafeEvalBlockedByCSP=False,
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, condition: str, patience: float = 60.0) -> None:
        """Waits until an expression is true there."""
        deadline = time.monotonic() + patience
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Presses a key of _KEYS."""
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        said = {
            "key": text or key, "code": key, "windowsVirtualKeyCode": _KEYS[key],
            "modifiers": 8 * shift,
        }  # fmt: skip
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **said)
        self.call("Input.dispatchKeyEvent", type="keyUp", **said)

    def choose(self, selector: str, *files: Path) -> None:
        """Gives files to an input, as its dialog does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in files])

    def look(self) -> Seen:
        page = self.evaluate(_LOOK)
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return Seen(
            page,
            [e["params"]["request"]["url"] for e in self.events if e["method"].endswith("BeSent")],
            [str(e["params"]) for e in self.events if e["method"] in _SAID],
            base64.b64decode(shot),
        )


class Chromium:
    """A context manager; the profile is a new, empty folder."""

    def __init__(self, profile: Path):
        self._profile = profile

    def __enter__(self) -> "Chromium":
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        # The browser reads commands from descriptor 3 and writes answers to 4.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", PROGRAM, *_FLAGS, f"--user-data-dir={self._profile}"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._count, self._events = b"", 0, []
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._send("Browser.close")
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Seen:
        """Opens a page in a window of that size, on light or dark paper, and looks at it."""
        with self.tab(url, width=width, height=height, dark=dark) as tab:
            return tab.look()

    @contextlib.contextmanager
    def tab(
        self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> Iterator["Tab"]:
        """The same, to do something there."""
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(functools.partial(self._send, session=session), self._events)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        tab.call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        tab.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._read())
        try:
            yield tab
        finally:
            self._send("Target.closeTarget", targetId=target)

    def _send(self, method: str, *, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        message |= {} if session is None else {"sessionId": session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "result" in answer, answer
                return answer["result"]
            self._events.append(answer)

    def _read(self, patience: float = 60.0) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self._in, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("Chromium says nothing")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
