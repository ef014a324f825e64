"""Which records of `events` became dead letters: no user state holds those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from kafka.consumer.fetcher import ConsumerRecord

from anabranch.kafka.log_reader import LogReader
from anabranch.kafka.topics import Topics
from consumers.runtime.dead_letter import NotReplayable, StoredDeadLetter

RECORDS_PER_STEP = 1_000


class DeadLetterOffsets:
    """The offsets of events that became dead letters, as of the last time it caught up.

    What could not be read once may be readable now, with a larger limit or a later version. It was never ranked, so a
    replay must not apply it: it would then be a duplicate when it is put back, and never be ranked at all.
    """

    def __init__(self, log_reader: LogReader, topics: Topics) -> None:
        self._log_reader = log_reader
        self._topics = topics
        self._letters: dict[int, dict[int, int | None]] = defaultdict(dict)
        """Partition → offset → hash of the bytes, None where the dead letter does not have them."""
        self._next_offset: dict[int, int] = {}

    def catch_up(self) -> Iterator[None]:
        """Read the dead letters that came since the last time; yields now and then, for other work."""
        records = self._log_reader.read_from(self._topics.dead_letter, self._next_offset)
        for count, record in enumerate(records):
            self._next_offset[record.partition] = record.offset + 1
            self._note(record)
            if count % RECORDS_PER_STEP == 0:
                yield

    def holds(self, partition: int, offset: int) -> bool:
        """Whether an event at this offset became a dead letter."""
        return offset in self._letters[partition]

    def holds_event(self, event: ConsumerRecord) -> bool:
        """Whether this very event did: of a log that was truncated or created again, another had its offset before."""
        if not self.holds(event.partition, event.offset):
            return False
        return self._letters[event.partition][event.offset] in (None, _hash(event.key, event.value))

    def end(self, partition: int) -> int:
        """The offset behind the last event of the partition that became a dead letter, 0 if none did."""
        return max(self._letters[partition], default=-1) + 1

    def _note(self, record: ConsumerRecord) -> None:
        try:
            letter = StoredDeadLetter.from_record(record)
        except NotReplayable:
            return
        if letter.topic == self._topics.events:
            has_bytes = letter.category != "too_large"
            self._letters[letter.partition][letter.offset] = _hash(letter.key, letter.value) if has_bytes else None


def _hash(key: bytes | None, value: bytes | None) -> int:
    """A dead letter does not tell an empty value from none."""
    return hash((key, value or b""))
