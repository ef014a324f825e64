"""What a log has lost of what a consumer group held: its position compared with both ends of the log. Without Kafka."""

from __future__ import annotations

from typing import Literal, NamedTuple

LossReason = Literal["trimmed", "truncated", "recreated"]
BreakReason = Literal[LossReason, "slates"]
"""slates: not events are lost, but the rankings that say which slate the users of the newest events have."""
BREAK_REASONS: tuple[BreakReason, ...] = ("trimmed", "truncated", "recreated", "slates")


class LogBounds(NamedTuple):
    """The ends of a partition's log."""

    start: int
    """The lowest offset that the log holds, or may hold."""
    end: int
    """The offset of the next record, records of open transactions counted."""
    topic_id: str = ""
    """What a topic of the same name that is created later does not have (KIP-516); empty: the broker does not say."""


class HeldPosition(NamedTuple):
    """What a group remembers of a partition."""

    next_offset: int
    """The next event to rank: the group's committed offset."""
    saved_to: int | None
    """Saved states hold every event before this offset; None: there are no saved states to complete."""
    topic_id: str = ""
    """Of the topic that the offsets count in; empty: not known."""


class LogLoss(NamedTuple):
    """What the log no longer has."""

    reason: LossReason
    """trimmed: the log begins behind the position. truncated: it ends before the position, or has other records there.
    recreated: it is the log of another topic with the same name."""
    resume_at: int
    """Where ranking can go on: every event that the log has from here on has no ranking yet."""
    unranked: int
    """Events that were deleted before they were ranked. Of a log that was truncated or created again nobody can say how
    many events behind the position it had: then it is 0."""
    unsaved: int
    """Events that were ranked, and are in no saved state: they can no longer be replayed."""

    @property
    def events(self) -> int:
        """Events whose loss is known."""
        return self.unranked + self.unsaved


def find_loss(held: HeldPosition, log: LogBounds, agreed_end: int | None = None) -> LogLoss | None:
    """What is lost if a group goes on with this log; None if the log still has all that the group needs of it.

    From `agreed_end` on the log has other records than the group had, although it may be long enough.
    """
    end = log.end if agreed_end is None else min(log.end, agreed_end)
    saved_to = held.next_offset if held.saved_to is None else held.saved_to
    if is_other_topic(held, log):
        return LogLoss("recreated", log.start, 0, held.next_offset - saved_to)
    if held.next_offset > end:
        return LogLoss("truncated", end, 0, held.next_offset - max(saved_to, end))
    if min(saved_to, held.next_offset) < log.start:
        unranked = max(0, log.start - held.next_offset)
        unsaved = max(0, min(held.next_offset, log.start) - saved_to)
        return LogLoss("trimmed", max(held.next_offset, log.start), unranked, unsaved)
    return None


def is_other_topic(held: HeldPosition, log: LogBounds) -> bool:
    """Whether the log is that of another topic than the group's; False where an id is not known."""
    return bool(held.topic_id and log.topic_id) and held.topic_id != log.topic_id


def describe(loss: LogLoss, held: HeldPosition, log: LogBounds) -> str:
    """What the log holds, what the group held and what is lost: the middle of a line."""
    holds = f"holds offsets {log.start} up to {log.end}" if log.end > log.start else f"is empty at offset {log.end}"
    lost = {
        "trimmed": f"{loss.unranked} events were deleted before they were ranked",
        "truncated": f"from offset {loss.resume_at} on the log lost what it had, {held.next_offset - loss.resume_at} "
        "events that were ranked and any that came after them",
        "recreated": "it is a new topic of that name, and what the old one had and was not ranked is lost",
    }[loss.reason]
    unsaved = f", and {loss.unsaved} ranked events are missing from the saved user states" if loss.unsaved else ""
    return f"{holds}, and the group's position in it is {held.next_offset}: {lost}{unsaved}"
