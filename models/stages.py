"""Long work in named stages, shown as one progress bar a stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from models.training_curves import Curve, KeptCurves

Advance = Callable[[int], None]
Bar = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Opens a progress bar of a name and a number of steps; told of every n steps done."""
Progress = Callable[[str, float], None]
"""Told the stage's name and how much of it is done, 0 to 1."""
Done = Callable[[float], None]
"""Told of every share (0 to 1) of a stage that is done."""


@contextmanager
def bar_by_stage(bar: Bar) -> Iterator[Callable[[str, float], None]]:
    """Turns a candidate's word on its stages into one bar a stage, in hundredths."""
    with ExitStack() as stack:
        shown: dict[str, tuple[Advance, int]] = {}

        def progress(stage: str, share: float) -> None:
            if stage not in shown:
                stack.close()
                shown[stage] = (stack.enter_context(bar(stage.capitalize(), 100)), 0)
            advance, before = shown[stage]
            done = int(100 * share)
            advance(done - before)
            shown[stage] = (advance, done)

        yield progress


class Stages:
    """Times the stages, reports how far each is and keeps their curves."""

    def __init__(self, progress: Progress, curve: Curve) -> None:
        self.seconds: dict[str, float] = {}
        self.curves = KeptCurves(curve)
        self._progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[Done]:
        """A stage; what it yields is told of every share (0 to 1) of it that is done."""
        started, done = time.perf_counter(), 0.0
        self._progress(name, 0.0)

        def advance(share: float) -> None:
            nonlocal done
            done = min(done + share, 1.0)
            self._progress(name, done)

        yield advance
        self.seconds[name] = time.perf_counter() - started
