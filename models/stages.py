"""Stages of a long computation: their progress, wall time and training curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from anabranch.progress_bar import PERCENT
from models.training_curves import Curve, CurveRecorder

Advance = Callable[[int], None]
"""Called with n after every n steps."""
Bar = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Opens a progress bar, given its title and its number of steps (None: unknown)."""
Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share (0 to 1) of it that is done."""
Done = Callable[[float], None]
"""Called with the share (0 to 1) of a stage that was done since the last call."""


class Stopped(Exception):
    """The work was asked to stop, and its next report of progress has ended it."""


TITLES = {
    "what the seeds know": "Compare seed models",
    "order lists": "Ranking lists",
    "order": "List ranker",
    "catching up": "Fine-tuning",
}
"""Titles of the bars of stages whose stored name says less; the manifest and the curves use the stored names."""


def stoppable(bar: Bar, is_stopped: Callable[[], bool]) -> Bar:
    """The same bars, whose opening and every step raise `Stopped` once `is_stopped()`."""

    def require_not_stopped() -> None:
        if is_stopped():
            raise Stopped

    @contextmanager
    def stoppable_bar(title: str, total: int | None) -> Iterator[Advance]:
        require_not_stopped()
        with bar(title, total) as advance:

            def advance_unless_stopped(steps: int) -> None:
                require_not_stopped()
                advance(steps)

            yield advance_unless_stopped

    return stoppable_bar


@contextmanager
def bar_by_stage(bar: Bar) -> Iterator[Progress]:
    """Show the progress of stages as one bar of percent per stage; a new stage closes the bar before it."""
    with ExitStack() as stack:
        bars: dict[str, tuple[Advance, int]] = {}

        def progress(stage: str, share: float) -> None:
            if stage not in bars:
                stack.close()
                title = TITLES.get(stage, stage.capitalize())
                bars[stage] = (stack.enter_context(bar(title, PERCENT)), 0)
            advance, before = bars[stage]
            percent = int(100 * share)
            advance(percent - before)
            bars[stage] = (advance, percent)

        yield progress


class Stages:
    """Measures the wall time of stages, reports their progress and records their curves."""

    def __init__(self, progress: Progress, curve: Curve) -> None:
        self.seconds: dict[str, float] = {}
        self.curves = CurveRecorder(curve)
        self._progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[Done]:
        """Run a stage; yields the function that it reports its progress to."""
        started, done = time.perf_counter(), 0.0
        self._progress(name, 0.0)

        def advance(share: float) -> None:
            nonlocal done
            done = min(done + share, 1.0)
            self._progress(name, done)

        yield advance
        self.seconds[name] = time.perf_counter() - started
