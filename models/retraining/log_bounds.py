"""Whether the topics still have what follows the event store's offsets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from anabranch.errors import AnabranchError

log = logging.getLogger(__name__)

Bounds = Mapping[int, tuple[int, int]]
"""Partition → offset of the first record that the topic still has, and its end offset."""


class LogTruncated(AnabranchError):
    """A topic ends before an offset up to which its events were read."""


@dataclass(frozen=True)
class TopicPosition:
    """The offsets up to which a topic was read, and its bounds now."""

    topic: str
    next_offsets: Mapping[int, int]
    bounds: Bounds

    def require_not_truncated(self, remedy: str) -> None:
        """Raise `LogTruncated` if a partition ends before it was read: new events have, or will get, the offsets of
        events that were read, so some would be passed over."""
        for partition, offset in self.next_offsets.items():
            end = self.bounds.get(partition, (0, 0))[1]
            if end < offset:
                raise LogTruncated(
                    f"{self.topic}, partition {partition} ends at offset {end:,}, and was read up to {offset:,}: the "
                    f"broker has lost records that it had acknowledged. {remedy}"
                )

    def missed(self) -> dict[int, int]:
        """Partition → how many offsets were deleted before they were read; partitions without any are left out."""
        gaps = {
            partition: self.bounds[partition][0] - offset
            for partition, offset in self.next_offsets.items()
            if partition in self.bounds
        }
        return {partition: gap for partition, gap in gaps.items() if gap > 0}

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
