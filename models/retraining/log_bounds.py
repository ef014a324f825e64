"""Whether the topics still have what follows the event store's offsets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from anabranch.errors import AnabranchError
from anabranch.kafka.log_bounds import HeldPosition, LogBounds, LogLoss, find_loss

log = logging.getLogger(__name__)


class LogTruncated(AnabranchError):
    """A topic ends before an offset up to which its events were read."""


@dataclass(frozen=True)
class TopicPosition:
    """The offsets up to which a topic was read, and its bounds now."""

    topic: str
    next_offsets: Mapping[int, int]
    bounds: Mapping[int, LogBounds]
    """By partition."""

    def require_not_truncated(self, remedy: str) -> None:
        """Raise `LogTruncated` if a partition ends before it was read: new events have, or will get, the offsets of
        events that were read, so some would be passed over."""
        for partition, loss in self._losses():
            if loss.reason == "truncated":
                raise LogTruncated(
                    f"{self.topic}, partition {partition} ends at offset {loss.resume_at:,}, and was read up to "
                    f"{self.next_offsets[partition]:,}: the broker has lost records that it had acknowledged. {remedy}"
                )

    def missed(self) -> dict[int, int]:
        """Partition → how many offsets were deleted before they were read; partitions without any are left out."""
        return {partition: loss.unranked for partition, loss in self._losses() if loss.reason == "trimmed"}

    def log_missed(self) -> int:
        """Log what was deleted unread, and return how many offsets that is, over all partitions."""
        missed = self.missed()
        for partition, count in missed.items():
            log.warning(
                "%s, partition %d: retention has deleted up to %s records before they were read, and no release learns "
                "from them; re-share more often, or raise retention_days",
                self.topic,
                partition,
                f"{count:,}",
            )
        return sum(missed.values())

    def _losses(self) -> Iterator[tuple[int, LogLoss]]:
        for partition, offset in self.next_offsets.items():
            loss = find_loss(HeldPosition(offset, None), self.bounds.get(partition, LogBounds(0, 0)))
            if loss is not None:
                yield partition, loss
