"""The processes of a chaos run, and the supervisor that starts them again when they end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from anabranch.harness.environment.processes import ChildProcess, Processes
from anabranch.harness.environment.ranker_probe import scrape

METRICS_AT = "metrics at "
"""Before the address in a process's log."""
RESTART_DELAY_S = 1.0
"""How long the supervisor waits before it restarts a process that ended by itself."""


@dataclass
class SupervisedProcess:
    """An `anabranch` command that is kept running. Times are on the monotonic clock, in seconds."""

    arguments: tuple[str, ...]
    process: ChildProcess | None = None
    """None while it is dead."""
    restart_at: float | None = None
    resume_at: float | None = None


@dataclass
class Fleet:
    """The rankers of one group, which faults may hit, and other processes, which they may not. Call `poll` often."""

    processes: Processes
    rankers: list[SupervisedProcess]
    others: list[SupervisedProcess] = field(default_factory=list)
    last_words: list[str] = field(default_factory=list)
    """The last log line of each process that ended by itself."""
    unexplained_ends: int = 0
    """How many of those lines are no one-line error of the command."""

    @classmethod
    def start(cls, processes: Processes, size: int, *arguments: str) -> Fleet:
        """Start `size` rankers. Every second one is a static group member (`--instance`, KIP-345)."""
        instances = [("--instance", f"ranker-{index}") if index % 2 == 0 else () for index in range(size)]
        fleet = cls(processes, [SupervisedProcess((*arguments, *instance)) for instance in instances])
        for ranker in fleet.rankers:
            fleet._start(ranker)
        return fleet

    def add(self, *arguments: str) -> None:
        """Start a process that no fault hits, and restart it whenever it ends."""
        self.others.append(SupervisedProcess(arguments))
        self._start(self.others[-1])

    def kill(self, index: int, duration_s: float) -> bool:
        """kill -9 a ranker, and start it again after `duration_s`. False if it is dead already."""
        ranker = self.rankers[index]
        if ranker.process is None:
            return False
        ranker.process.kill()
        ranker.process, ranker.resume_at = None, None
        ranker.restart_at = time.monotonic() + duration_s
        return True

    def pause(self, index: int, duration_s: float) -> bool:
        """SIGSTOP a ranker, and SIGCONT after `duration_s`. False if it is dead or paused already."""
        ranker = self.rankers[index]
        if ranker.process is None or ranker.resume_at is not None:
            return False
        ranker.process.suspend()
        ranker.resume_at = time.monotonic() + duration_s
        return True

    def poll(self) -> None:
        """Restart and resume the processes whose time has come, and note those that ended by themselves."""
        now = time.monotonic()
        for supervised in [*self.rankers, *self.others]:
            process = supervised.process
            if process is not None and not process.alive:
                self._note_end(process)
                supervised.process, supervised.resume_at = None, None
                supervised.restart_at = now + RESTART_DELAY_S
            if supervised.resume_at is not None and now >= supervised.resume_at and supervised.process is not None:
                supervised.process.resume()
                supervised.resume_at = None
            if supervised.restart_at is not None and now >= supervised.restart_at:
                self._start(supervised)

    def count(self, metric: str, reason: str) -> int:
        """The sum of a counter's samples with that label over the rankers, which serve metrics."""
        logs = (ranker.process.log_lines() for ranker in self.rankers if ranker.process is not None)
        urls = [next(line.split(METRICS_AT)[1] for line in reversed(lines) if METRICS_AT in line) for lines in logs]
        samples = (sample for url in urls for sample in scrape(url))
        return int(sum(each.value for each in samples if each.name == metric and each.labels["reason"] == reason))

    def restore_all(self) -> None:
        """Restart and resume every ranker now."""
        for ranker in self.rankers:
            if ranker.resume_at is not None:
                ranker.resume_at = 0.0
            if ranker.restart_at is not None:
                ranker.restart_at = 0.0
        self.poll()

    def stop(self) -> list[float]:
        """SIGTERM to one ranker after the other; the seconds until each ended. Raises `ProcessFailed`."""
        seconds = []
        for ranker in self.rankers:
            if ranker.process is not None:
                started = time.monotonic()
                ranker.process.stop()
                seconds.append(time.monotonic() - started)
                ranker.process.check()
        return seconds

    def _note_end(self, process: ChildProcess) -> None:
        last_line = next(reversed(process.log_lines()), "")
        self.last_words.append(f"{process.name}: {last_line}")
        self.unexplained_ends += not last_line.startswith("anabranch: ")

    def _start(self, supervised: SupervisedProcess) -> None:
        supervised.process = self.processes.start(*supervised.arguments)
        supervised.restart_at = None
