"""Child processes of the demo and of chaos: started as a user would start them, logged to files, always stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from anabranch.errors import AnabranchError

STOP_SECONDS = 10.0
TAIL_LINES = 15


class ProcessFailed(AnabranchError):
    """A child process ended when it should have been running, or ended badly."""


@dataclass
class Child:
    """One `anabranch …` process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def check(self) -> None:
        """Raise `ProcessFailed`, with the end of its log, if it ended badly."""
        code = self.process.poll()
        if code not in (None, 0):
            raise ProcessFailed(f"`anabranch {self.name}` ended with exit code {code}{self._tail()}")

    def wait(self) -> None:
        """Wait for its end. Raises `ProcessFailed` if that is a bad one."""
        self.process.wait()
        self.check()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: it stands still, and does not know it."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, so that it drains and commits; SIGKILL if that takes longer than `STOP_SECONDS`."""
        if not self.running:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _tail(self) -> str:
        if self.log is None:
            return ""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"; the end of {self.log}:", *lines])


@dataclass
class Processes:
    """Starts children with one environment, and stops them all, the newest first, when the block ends."""

    environment: Mapping[str, str]
    logs: Path
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Processes:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self.children):
            child.stop()

    def start(self, *arguments: str, on_terminal: bool = False) -> Child:
        """Start `anabranch ARGUMENTS`; it writes to its log, or to this terminal."""
        command = [sys.executable, "-m", "anabranch", *arguments]
        name = next(one for one in arguments if not one.startswith("-") and "=" not in one)  # behind global options
        if on_terminal:
            child = Child(name, subprocess.Popen(command, env=self.environment), None)
        else:
            log = self.logs / f"{name}-{len(self.children)}.log"
            with log.open("wb") as file:
                child = Child(
                    name, subprocess.Popen(command, env=self.environment, stdout=file, stderr=subprocess.STDOUT), log
                )
        self.children.append(child)
        return child

    def check(self) -> None:
        """Raise `ProcessFailed` if any child ended badly."""
        for child in self.children:
            child.check()
