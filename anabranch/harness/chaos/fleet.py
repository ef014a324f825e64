"""The processes of a chaos run, and the supervisor that starts them again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from anabranch.harness.environment.processes import Child, Processes

START_AGAIN_S = 1.0
"""A supervisor's wait before it starts a process that ended by itself."""


@dataclass
class Ranker:
    """A place in the fleet: the process that fills it, if one does."""

    arguments: tuple[str, ...]
    child: Child | None = None
    start_at: float | None = None
    resume_at: float | None = None


@dataclass
class Fleet:
    """Rankers of one group. `look` is called again and again; times are on the monotonic clock."""

    processes: Processes
    rankers: list[Ranker]
    others: list[Ranker] = field(default_factory=list)
    """Started again as well, but never a victim."""
    ended: list[str] = field(default_factory=list)
    """Last words of processes that ended by themselves."""
    defects: int = 0
    """Of those, the ones that were not one line of the command's own."""

    @classmethod
    def of(cls, processes: Processes, size: int, *arguments: str) -> Fleet:
        """All started. Every second one has a name that outlives a restart, the others have none."""
        names = [("--instance", f"ranker-{number}") if number % 2 == 0 else () for number in range(size)]
        fleet = cls(processes, [Ranker((*arguments, *name)) for name in names])
        for ranker in fleet.rankers:
            fleet._start(ranker)
        return fleet

    def add(self, *arguments: str) -> None:
        """Start another process, and again whenever it ends."""
        self.others.append(Ranker(arguments))
        self._start(self.others[-1])

    def kill(self, number: int, for_s: float) -> bool:
        """kill -9; whether there was one to kill."""
        ranker = self.rankers[number]
        if ranker.child is None:
            return False
        ranker.child.kill()
        ranker.child, ranker.resume_at = None, None
        ranker.start_at = time.monotonic() + for_s
        return True

    def pause(self, number: int, for_s: float) -> bool:
        """SIGSTOP, then SIGCONT; whether there was one to pause."""
        ranker = self.rankers[number]
        if ranker.child is None or ranker.resume_at is not None:
            return False
        ranker.child.pause()
        ranker.resume_at = time.monotonic() + for_s
        return True

    def look(self) -> None:
        """Start and wake those whose time has come, and those that ended by themselves."""
        now = time.monotonic()
        for ranker in [*self.rankers, *self.others]:
            if ranker.child is not None and not ranker.child.running:
                self._note_end(ranker.child)
                ranker.child, ranker.resume_at, ranker.start_at = None, None, now + START_AGAIN_S
            if ranker.resume_at is not None and now >= ranker.resume_at and ranker.child is not None:
                ranker.child.resume()
                ranker.resume_at = None
            if ranker.start_at is not None and now >= ranker.start_at:
                self._start(ranker)

    def make_whole(self) -> None:
        """Start and wake everyone."""
        for ranker in self.rankers:
            if ranker.resume_at is not None:
                ranker.resume_at = 0.0
            if ranker.start_at is not None:
                ranker.start_at = 0.0
        self.look()

    def stop(self) -> list[float]:
        """SIGTERM to each in turn; the seconds each took to end. Raises `ProcessFailed` for a bad end."""
        seconds = []
        for ranker in self.rankers:
            if ranker.child is not None:
                began = time.monotonic()
                ranker.child.stop()
                seconds.append(time.monotonic() - began)
                ranker.child.check()
        return seconds

    def _note_end(self, child: Child) -> None:
        lines = [""] if child.log is None else ["", *child.log.read_text(errors="replace").splitlines()]
        self.ended.append(f"{child.name}: {lines[-1]}")
        self.defects += not lines[-1].startswith("anabranch: ")

    def _start(self, ranker: Ranker) -> None:
        ranker.child = self.processes.start(*ranker.arguments)
        ranker.start_at = None
