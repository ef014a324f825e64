"""A headless Chromium, driven by its DevTools protocol over a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 60.0
READ_BYTES = 65_536


class BrowserError(Exception):
    """The browser refused a command, or did not answer; or a script of a page failed."""


def require_chromium() -> Path:
    """The path of a Chromium. Where there is none, a test fails with CI set, and is skipped else."""
    for name in NAMES:
        installed = shutil.which(name)
        if installed is not None:
            return Path(installed)
    missing = "there is no Chromium on the path: install Debian's package `chromium`"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command to this tab."""
        return self._browser.command(method, parameters, self._session)

    def before_scripts(self, script: str) -> None:
        """Run this on each document of the tab, before the scripts of the page."""
        self.command("Page.enable")
        self.command("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, url: str) -> None:
        """Go to the address; its scripts have run on return."""
        error = self.command("Page.navigate", url=url).get("errorText")
        if error:
            raise BrowserError(f"{url}: {error}")
        self.until(f"document.readyState == 'complete' && location.href == {json.dumps(url)}")

    def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        answer = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        await_true(lambda: bool(self.run(script)), script)

    def close(self) -> None:
        """Close the tab as its user would."""
        self._browser.command("Target.closeTarget", {"targetId": self._target})


class Chromium:
    """A browser process."""

    def __init__(self, process: subprocess.Popen[bytes], to_browser: int, from_browser: int) -> None:
        self._process = process
        self._to_browser = to_browser
        self._from_browser = from_browser
        self._unread = b""
        self._number = 0

    def new_visitor(self) -> str:
        """A context with cookies and storage of its own."""
        context: str = self.command("Target.createBrowserContext")["browserContextId"]
        return context

    def new_page(self, visitor: str) -> Page:
        """A new tab."""
        target = self.command("Target.createTarget", {"url": "about:blank", "browserContextId": visitor})["targetId"]
        session = self.command("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        return Page(self, target, session)

    def command(self, method: str, parameters: dict[str, Any] | None = None, session: str | None = None) -> Any:
        """The result of a command. Raises `BrowserError`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            answer = self._read(deadline_s)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]

    def _read(self, deadline_s: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from_browser], [], [], max(0.0, deadline_s - time.monotonic()))
            read = os.read(self._from_browser, READ_BYTES) if ready else b""
            if not read:
                raise BrowserError(f"the browser does not answer; its exit code is {self._process.poll()}")
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextmanager
def running_chromium(program: Path, profile: Path) -> Iterator[Chromium]:
    """A browser; `profile` is a folder for what it writes. Every name of a host but 127.0.0.1 leads to 127.0.0.1."""
    commands, answers = _pipe(), _pipe()

    def take_pipes() -> None:  # the browser reads commands from 3 and writes answers to 4
        os.dup2(commands[0], 3)
        os.dup2(answers[1], 4)

    process = subprocess.Popen(
        [
            program,
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * 127.0.0.1",
            "--no-first-run",
            "--no-sandbox",  # which root cannot have
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "about:blank",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(3, 4),
        preexec_fn=take_pipes,
    )
    os.close(commands[0])
    os.close(answers[1])
    try:
        yield Chromium(process, commands[1], answers[0])
    finally:
        process.kill()
        process.wait()
        os.close(commands[1])
        os.close(answers[0])


def _pipe() -> tuple[int, int]:
    """A pipe whose numbers are neither 3 nor 4."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return ends[0], ends[1]


def await_true(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited for {what}"
        time.sleep(0.02)
