"""Progress of long work: bars on a terminal; in a log or a pipe, plain lines that say how far the work is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[int], None]

LINE_INTERVAL_S = 10.0
"""Seconds between two lines where the output is no terminal. They come even if the work reports no step."""


class Percent(int):
    """A number of steps that are percent of the whole, and not things that are counted."""


PERCENT = Percent(100)


@contextmanager
def bar(
    description: str,
    total: int | None = None,
    console: Console | None = None,
    interval_s: float = LINE_INTERVAL_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """A bar of `total` steps, None if unknown. It yields a function to call with the number of steps done since."""
    console = console or Console(stderr=True)
    if console.is_terminal:
        with _bar_on_terminal(console, description, total) as advance:
            yield advance
    else:
        with _lines(console, PlainProgress(description, total, monotonic), interval_s) as advance:
            yield advance


class PlainProgress:
    """The lines of one piece of work."""

    def __init__(self, title: str, total: int | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._total = total
        self._monotonic = monotonic
        self._started_at = monotonic()
        self._done = 0

    def advance(self, steps: int) -> None:
        """Count steps that are done."""
        self._done += steps

    def running(self) -> str:
        """How far the work is: "Rank: 1,234 of 5,000 (24 %), 20 s"."""
        parts = [part for part in (self._position(), f"{self._seconds():.0f} s") if part]
        return f"{self._title}: {', '.join(parts)}"

    def finished(self) -> str:
        """That it has ended well: "Rank: finished, 5,000 in 56.8 s"."""
        counted = "" if isinstance(self._total, Percent) or not self._done else f", {self._count()}"
        return f"{self._title}: finished{counted} in {self._seconds():.1f} s"

    def failed(self) -> str:
        """That an error, or a signal, has ended it: "Rank: failed at 1,234 of 5,000 (24 %), after 20.1 s"."""
        position = self._position()
        return f"{self._title}: failed{f' at {position},' if position else ''} after {self._seconds():.1f} s"

    def _position(self) -> str:
        """The steps done, of how many; empty where neither is known."""
        if isinstance(self._total, Percent):
            return f"{self._done} %"
        if self._total:
            return f"{self._done:,} of {self._total:,} ({100 * self._done // self._total} %)"
        return f"{self._done:,}" if self._done else ""

    def _count(self) -> str:
        """The steps of finished work; of how many, if it took fewer than expected."""
        is_short = self._total is not None and self._done < self._total
        return f"{self._done:,} of {self._total:,}" if is_short else f"{self._done:,}"

    def _seconds(self) -> float:
        return self._monotonic() - self._started_at


@contextmanager
def _lines(console: Console, progress: PlainProgress, interval_s: float) -> Iterator[Advance]:
    """Print a line every `interval_s` seconds, in a thread, and one at the end of the block."""
    ended = threading.Event()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def report() -> None:
        while not ended.wait(interval_s):
            say(progress.running())

    thread = threading.Thread(target=report, name="progress", daemon=True)
    thread.start()
    last_line = progress.failed
    try:
        yield progress.advance
        last_line = progress.finished
    finally:
        ended.set()
        thread.join()
        say(last_line())


@contextmanager
def _bar_on_terminal(console: Console, description: str, total: int | None) -> Iterator[Advance]:
    steps = TaskProgressColumn() if isinstance(total, Percent) else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), steps, TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total)
        yield lambda n: progress.advance(task, n)
        if isinstance(total, Percent):  # shares that were rounded, or a stage that ended early
            progress.update(task, completed=total)
