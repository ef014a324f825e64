"""Child processes of the harness: one wrapper (over psutil) that starts, signals, watches and always stops them.

A child leads a session of its own, so Ctrl-C at the terminal reaches the harness alone, which then stops its children.
On Linux the kernel signals a child when the thread that started it ends, even by kill -9: start children from the main
thread.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from types import TracebackType

import psutil

from anabranch.errors import AnabranchError, BrokerUnavailable

STOP_TIMEOUT_S = 10.0
KILL_TIMEOUT_S = 30.0
"""How long the kernel may take to remove a killed process."""
TAIL_LINES = 20
PORT_RANGE = range(20_000, 32_000)
"""Below the range from which Linux draws the local ports of outgoing connections (32768 and up)."""


class ProcessFailed(AnabranchError):
    """A child process ended while it was needed, or with an exit code other than 0."""


@dataclass
class ChildProcess:
    """A command run as a child process. It can be started again once it has ended; the log grows.

    `name` is for messages. Without a `log` the output goes to this terminal.
    """

    name: str
    command: Sequence[str]
    log: Path | None
    environment: Mapping[str, str] | None = None
    working_dir: Path | None = None
    death_signal: signal.Signals | None = signal.SIGTERM
    """The signal that the kernel sends the child when its parent ends; None: it outlives its parent."""
    _process: psutil.Popen | None = field(default=None, repr=False)
    """None before the first start and after `kill`."""

    @property
    def alive(self) -> bool:
        """Whether the process runs (also while it is suspended)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id, which is its group's id too; None while it does not run."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs, before its start and after `kill`; negative: the signal that ended it."""
        return None if self._process is None else self._process.poll()

    @property
    def resident_bytes(self) -> int:
        """Resident memory, as the kernel counts it. Raises `ProcessFailed` if it does not run."""
        return int(self._running().memory_info().rss)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU time that its threads have used. Raises `ProcessFailed` if it does not run."""
        times = self._running().cpu_times()
        return float(times.user + times.system)

    def start(self) -> None:
        """Start the process unless it runs."""
        if self.alive:
            return
        with nullcontext() if self.log is None else self.log.open("ab") as output:
            self._process = psutil.Popen(
                self.command,
                env=self.environment,
                cwd=self.working_dir,
                stdin=DEVNULL,
                stdout=output,
                stderr=None if output is None else STDOUT,
                start_new_session=True,
                preexec_fn=_signal_on_parent_death(self.death_signal),
            )

    def check(self) -> None:
        """Raise `ProcessFailed`, with the end of its log, if it ended with an exit code other than 0."""
        if self.exit_code not in (None, 0):
            raise ProcessFailed(f"`{self.name}` ended with exit code {self.exit_code}{self.log_tail()}")

    def wait(self) -> None:
        """Wait until it ends. Raises as `check` does."""
        if self._process is not None:
            self._process.wait()
        self.check()

    def suspend(self) -> None:
        """SIGSTOP: the process stands still and does not notice."""
        if self._process is not None and self.alive:
            self._process.suspend()

    def resume(self) -> None:
        """SIGCONT, which ends `suspend`."""
        if self._process is not None and self.alive:
            self._process.resume()

    def terminate(self) -> None:
        """SIGTERM to its group; `stop` waits for the end."""
        self._signal_group(signal.SIGTERM)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM to its group, SIGKILL if it still runs after `timeout_s`; wait for its end. Safe to call again."""
        self.terminate()
        if self._process is not None:
            with suppress(psutil.TimeoutExpired):
                self._process.wait(timeout_s)
            self._signal_group(signal.SIGKILL)
            self._process.wait(KILL_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL to its group; wait for its end, which counts as no failure. Safe to call again."""
        self._signal_group(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(KILL_TIMEOUT_S)
            self._process = None

    def log_lines(self) -> list[str]:
        """The lines of its log; none if it writes to the terminal."""
        return [] if self.log is None else self.log.read_text("utf-8", errors="replace").splitlines()

    def log_tail(self) -> str:
        """The end of its log as a part of a message, or nothing."""
        return "\n".join([f"; the end of {self.log}:", *self.log_lines()[-TAIL_LINES:]]) if self.log else ""

    def _running(self) -> psutil.Popen:
        if self._process is None or not self.alive:
            raise ProcessFailed(f"`{self.name}` does not run")
        return self._process

    def _signal_group(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)


@dataclass
class Processes:
    """Runs `anabranch` commands with one environment; stops all of them, the newest first, when the block ends."""

    environment: Mapping[str, str]
    logs: Path
    children: list[ChildProcess] = field(default_factory=list)

    def __enter__(self) -> Processes:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self.children):
            child.stop()

    def start(self, *arguments: str, on_terminal: bool = False) -> ChildProcess:
        """Start `anabranch ARGUMENTS`; it writes to a log of its own, or to this terminal."""
        command = next(word for word in arguments if not word.startswith("-") and "=" not in word)  # skips --set X=Y
        log = None if on_terminal else self.logs / f"{command}-{len(self.children)}.log"
        program = [sys.executable, "-m", "anabranch", *arguments]
        return self.add(ChildProcess(f"anabranch {command}", program, log, self.environment))

    def add(self, child: ChildProcess) -> ChildProcess:
        """Start a child that is no `anabranch` command, and stop it with the others."""
        self.children.append(child)
        child.start()
        return child

    def check(self) -> None:
        """Raise `ProcessFailed` if any child ended with an exit code other than 0."""
        for child in self.children:
            child.check()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens. Raises `BrokerUnavailable` if there are not that many."""
    ports: list[int] = []
    with ExitStack() as sockets:  # all bound at once, so that no port is returned twice
        for port in random.sample(PORT_RANGE, 100 + count):
            listener = sockets.enter_context(socket.socket())
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise BrokerUnavailable("found no free port on 127.0.0.1")


def _signal_on_parent_death(number: signal.Signals | None) -> Callable[[], None] | None:
    """What the child runs before the command, on Linux: prctl(PR_SET_PDEATHSIG), see prctl(2)."""
    if number is None or sys.platform != "linux":
        return None
    prctl, parent, set_death_signal = ctypes.CDLL(None, use_errno=True).prctl, os.getpid(), 1

    def request_signal() -> None:
        prctl(set_death_signal, number)
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return request_signal
