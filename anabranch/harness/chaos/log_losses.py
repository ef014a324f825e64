"""The end of a chaos run: `events` loses records under a stopped fleet, which then goes on as `on_lost_events` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice

from kafka import TopicPartition
from msgspec import Struct
from rich.console import Console

from anabranch.harness.chaos.contents import TopicContents, complete_up_to
from anabranch.harness.chaos.fleet import Fleet
from anabranch.harness.chaos.stream import Message, publish
from anabranch.harness.chaos.verify import Findings, verify
from anabranch.harness.environment.testbed import Testbed
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets, committed, ends
from anabranch.kafka.topics import provision

MESSAGES = 400
"""Published before each restart of the fleet."""
CONTINUE = ("--set", "on_lost_events=continue", "rank", "--metrics-port", "0")
LOST, BREAKS = "anabranch_events_lost_total", "anabranch_log_breaks_total"


class LossFindings(Struct, frozen=True, kw_only=True):
    """What the topics hold after both losses, and what the rankers counted."""

    deleted: int
    """Messages that were deleted before any ranker had read them."""
    counted: int
    """Those that the rankers counted as lost."""
    recreated: int
    """Partitions with a history that were created again."""
    breaks: int
    """Those that the rankers counted as such."""
    findings: Findings
    """Of the whole run, as if the deleted messages had never been sent."""

    @property
    def is_counted(self) -> bool:
        """Whether the rankers counted all that was lost, and no more."""
        return self.deleted == self.counted > 0 and self.recreated == self.breaks > 0

    @property
    def adds_up(self) -> bool:
        """Whether exactly what was lost is missing, and was counted."""
        return self.is_counted and self.findings.adds_up


class LogLosses:
    """Trims the log, then creates the topic again. The rankers of the run have stopped."""

    def __init__(self, testbed: Testbed, rankers: int, contents: TopicContents, console: Console) -> None:
        """`contents` are what the topics hold so far."""
        self._testbed = testbed
        self._settings = testbed.settings
        self._rankers = rankers
        self._contents = contents
        self._console = console

    def run(self, messages: Iterator[Message], first_offsets: Offsets) -> LossFindings:
        """Both losses, and the check of all that the topics held. `messages` are those still to publish."""
        no_shift = dict.fromkeys(ends(self._settings, self._testbed.topics.events), 0)
        self._publish(messages)
        starts = self._positions()
        deleted = self._trim()
        self._console.print(f"the log of events is trimmed: {deleted} messages are lost", highlight=False)
        counted = self._rank(LOST, "trimmed")
        self._extend(starts, no_shift)

        shift = ends(self._settings, self._testbed.topics.events)
        recreated = len(complete_up_to(self._settings))
        starts = self._positions() | {self._testbed.topics.events: {}}
        self._recreate()
        self._console.print("the topic of events is deleted and created again", highlight=False)
        self._publish(messages)
        breaks = self._rank(BREAKS, "recreated")
        self._extend(starts, shift)
        return LossFindings(
            deleted=deleted,
            counted=counted,
            recreated=recreated,
            breaks=breaks,
            findings=verify(self._settings, self._contents, first_offsets),
        )

    def _publish(self, messages: Iterator[Message]) -> None:
        publish(self._settings, self._testbed.topics.events, islice(messages, MESSAGES))

    def _positions(self) -> dict[str, Offsets]:
        """By topic, where the messages to come begin."""
        topics = self._testbed.topics
        names = (topics.rankings, topics.feedback, topics.dead_letter)
        return {name: ends(self._settings, name) for name in names} | {topics.events: committed(self._settings)}

    def _trim(self) -> int:
        """Delete the first half of what is not ranked of each partition; how many messages that were."""
        topic, held = self._testbed.topics.events, committed(self._settings)
        log_ends = ends(self._settings, topic)
        new_starts = {number: offset + (log_ends[number] - offset) // 2 for number, offset in held.items()}
        with closing(clients.admin(self._settings)) as admin:
            admin.delete_records({TopicPartition(topic, number): start for number, start in new_starts.items()})
        return sum(start - held[number] for number, start in new_starts.items())

    def _recreate(self) -> None:
        topic = self._testbed.topics.events
        with closing(clients.admin(self._settings)) as admin:
            admin.delete_topics([topic])
            self._testbed.wait_until(lambda: topic not in admin.list_topics(), "the topic of events to be deleted")
            provision(admin, self._settings)

    def _rank(self, metric: str, reason: str) -> int:
        """Start the fleet, let it rank and save everything, and stop it; what all rankers counted of that reason."""
        fleet = Fleet.start(self._testbed.processes, self._rankers, *CONTINUE)
        end = ends(self._settings, self._testbed.topics.events)
        self._await(lambda: committed(self._settings) == end, "rankers catch up after a loss", fleet)
        self._await(lambda: complete_up_to(self._settings) == end, "rankers save every state after a loss", fleet)
        counted = fleet.count(metric, reason)
        fleet.stop()
        return counted

    def _await(self, condition: Callable[[], bool], description: str, fleet: Fleet) -> None:
        self._testbed.wait_until(condition, description, on_poll=fleet.poll)

    def _extend(self, starts: dict[str, Offsets], shift: Offsets) -> None:
        later = TopicContents.read(self._settings, starts)
        self._contents = self._contents.followed_by(later, shift)
