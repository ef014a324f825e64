"""A transaction that is being published while the next batch is ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from anabranch.kafka.records import OutboundRecord
from anabranch.ranking.types import Slots
from anabranch.ranking.user_state.store import StateSnapshot, UserStates
from consumers.ranker.checkpoint import CheckpointPlan


@dataclass(frozen=True)
class BatchUndo:
    """What undoes a batch in the user states, should it not be published."""

    slots: Slots
    """[U] of the users of the batch, distinct."""
    pre_image: StateSnapshot
    """Their states before the batch."""

    def apply(self, users: UserStates) -> None:
        """Restore the states; users whose first event was in the batch are forgotten."""
        users.restore(self.slots, self.pre_image)
        users.free_slots(self.slots[self.pre_image.columns.dedupe_count == 0])


class CommittedTransaction(NamedTuple):
    """A transaction that was committed."""

    record_offsets: Sequence[tuple[OutboundRecord, int]]
    """Each record with its offset, `UNKNOWN_OFFSET` where that is not known."""
    committed_at_s: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class PendingTransaction:
    """A transaction whose outcome is not known yet."""

    plans: Sequence[CheckpointPlan]
    start_offsets: Mapping[int, int]
    """The next offset of each of its partitions before it."""
    end_offsets: Mapping[int, int]
    """And after it."""
    undo: BatchUndo | None
    """None: it has no events, only user states."""
    on_commit: Callable[[float], None]
    """Called with the time of the commit, in seconds since 1970."""
    future: Future[CommittedTransaction]


class SynchronousExecutor(Executor):
    """Runs a call at once, in the thread that submits it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done, with the result or the exception."""
        future = Future[Any]()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
