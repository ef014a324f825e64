"""Progress bars on a terminal; in a log or a pipe, one line at the end of the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Advance = Callable[[int], None]


@contextmanager
def bar(description: str, total: int | None = None, console: Console | None = None) -> Iterator[Advance]:
    """A bar of `total` steps, None if unknown. It yields a function to call with the number of steps done since."""
    console = console or Console(stderr=True)
    started, done = time.monotonic(), 0

    def count(n: int) -> None:
        nonlocal done
        done += n

    if console.is_terminal:
        with _progress(console) as progress:
            task = progress.add_task(description, total=total)
            yield lambda n: progress.advance(task, n)
    else:
        yield count
        console.print(f"{description}: {done:,} in {time.monotonic() - started:.1f} s")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
