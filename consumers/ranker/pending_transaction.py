"""A batch on its way to the log, beside the ranking of the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from anabranch.ranking.pipeline.rank import Ranked
from anabranch.ranking.types import Slots
from anabranch.ranking.user_state.store import Copied
from consumers.ranker.checkpoint import Checkpoint, Stretch
from consumers.runtime.outbound import Outgoing


@dataclass(frozen=True)
class Moved:
    """What a batch did to the states, to be undone should it not be published."""

    slots: Slots
    """[U] of the users of the batch, distinct."""
    before: Copied
    ranked: Ranked
    stretches: dict[int, Stretch]


class Published(NamedTuple):
    """A transaction that is committed."""

    messages: Sequence[tuple[Outgoing, int]]
    """Each with its offset, -1 where that is not known."""
    at: float
    """When, in seconds since 1970."""


@dataclass(frozen=True)
class InFlight:
    """A transaction whose end is not known yet."""

    plans: Sequence[Checkpoint]
    begins: Mapping[int, int]
    """By partition, the next offset before it."""
    ends: Mapping[int, int]
    """And after it."""
    moved: Moved | None
    count: Callable[[float], None]
    """To be told when it was committed, in seconds since 1970."""
    outcome: Future[Published]


class InTurn(Executor):
    """Does what it is given at once, in the thread that gives it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future is done, whichever way."""
        future = Future[Any]()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
