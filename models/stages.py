"""Long work in named stages, shown as one progress bar a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

Advance = Callable[[int], None]
Bar = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Opens a progress bar of a name and a number of steps; told of every n steps done."""


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
