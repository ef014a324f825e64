"""A server as a child process: watched until it answers, and gone with its parent whatever happens.

It has a session of its own, so that Ctrl-C, which is for the parent, does not reach it; and on Linux the kernel signals
it when the thread that started it ends, even by kill -9. So start it from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from anabranch.errors import BrokerUnavailable

LOG_LINES = 20
KILL_SECONDS = 30.0
"""How long the kernel may take to be rid of a killed process."""


@dataclass
class Server:
    """What `command` starts, as often as need be; its output is added to `log`, and clients find it at `address`.

    `death_signal` is what the kernel sends it when its parent dies.
    """

    command: Sequence[str]
    address: str
    log: Path
    death_signal: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The process, which leads a group of its own; None if it was never started, or was stopped."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process unless it runs; `await_answer` waits for it."""
        if self.alive:
            return
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent(self.death_signal),
            )

    def await_answer(self, answers: Callable[[str], bool], seconds: float) -> None:
        """Wait until `answers(address)`. Raises `BrokerUnavailable`, with the end of the log, if it does not."""
        deadline = time.monotonic() + seconds
        while not answers(self.address):
            if self._process is not None and not self.alive:
                raise BrokerUnavailable(f"the broker died with exit code {self._process.returncode}; {self._tail()}")
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"the broker does not answer after {seconds:.0f} s; {self._tail()}")
            time.sleep(0.1)

    def terminate(self) -> None:
        """SIGTERM to the whole group, for the command's own children too; `stop` waits for it."""
        self._signal(signal.SIGTERM)

    def stop(self, seconds: float) -> None:
        """SIGTERM, and SIGKILL to what still runs after so long; wait until it is gone. Safe to call again."""
        self.terminate()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group; wait until it is gone. Safe to call again."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(KILL_SECONDS)
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _tail(self) -> str:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join([f"the end of {self.log}:", *lines])


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 nobody listens on, below the range from which the kernel draws outgoing ports."""
    found: list[int] = []
    with ExitStack() as held:  # all at once, so that no port is found twice
        for port in random.sample(range(20_000, 32_000), 100 + count):
            candidate = held.enter_context(socket.socket())
            with suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise BrokerUnavailable("found no free port on 127.0.0.1")


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What the child does before it becomes the server, on Linux: ask for a signal when its parent dies."""
    if sys.platform != "linux":
        return None
    prctl, parent, set_death_signal = ctypes.CDLL(None, use_errno=True).prctl, os.getpid(), 1

    def ask() -> None:
        prctl(set_death_signal, number)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask
