"""Which records of a topic are among the dead letters: no state has seen those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from kafka.consumer.fetcher import ConsumerRecord

from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from consumers.runtime.dead_letter import Letter, Refused

CHUNK = 1_000


class Buried:
    """Knows the dead letters of one topic's records, as of when it last caught up.

    What could not be read once may be readable now, by a larger limit or a later version. It was never ranked, so it
    must not be folded: it would then be a duplicate when it is replayed, and never be ranked at all.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._offsets: dict[int, set[int]] = defaultdict(set)
        self._next: dict[int, int] = {}

    def catch_up(self) -> Iterator[None]:
        """Read the dead letters that came since the last time; yields now and then, for other work."""
        records = clients.read_from(self._settings, Topics(self._settings).dead_letter, self._next)
        for count, record in enumerate(records):
            self._next[record.partition] = record.offset + 1
            self._note(record)
            if count % CHUNK == 0:
                yield

    def holds(self, partition: int, offset: int) -> bool:
        """Whether the topic's record at this place is among the dead letters."""
        return offset in self._offsets[partition]

    def _note(self, record: ConsumerRecord) -> None:
        try:
            letter = Letter.of(record)
        except Refused:
            return
        if letter.topic == self._topic:
            self._offsets[letter.partition].add(letter.offset)
