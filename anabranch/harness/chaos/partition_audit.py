"""Checks one partition of `events`: replays it without interruption and compares what the rankers published."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anabranch.harness.chaos.contents import TopicContents
from anabranch.harness.chaos.reference import ReferenceRun, ReleaseSet, restore_states
from anabranch.harness.chaos.slate_comparison import is_same_slate
from anabranch.harness.environment.reconciliation import EventPosition, LoggedEvent, LoggedRanking
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import Feedback, RankedItem, UserState
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.settings import Settings
from consumers.runtime.decoding import DecodedEvent, decode_events

log = logging.getLogger(__name__)

JoinedLabel = tuple[str | None, int, int | None, float | None, dict[str, int]]
"""Release, slate size, rank, propensity and ranks at the other placements of a feedback."""


@dataclass
class PartitionFindings:
    """Counts of one partition; `Findings` explains them."""

    expected: dict[EventPosition, LoggedEvent] = field(default_factory=dict)
    """Events that had to be ranked."""
    rejected: dict[EventPosition, OutboundRecord] = field(default_factory=dict)
    """The dead letters that there had to be, by the position of the original message."""
    ignored: int = 0
    mislabelled: int = 0
    misranked: int = 0
    misjoined: int = 0
    users: int = 0
    diverged: int = 0
    unsaved: int = 0


class PartitionAuditor:
    """Audits partitions, each by itself."""

    def __init__(
        self, settings: Settings, contents: TopicContents, releases: ReleaseSet, first_offsets: Offsets
    ) -> None:
        self._max_message_bytes = settings.max_message_bytes
        self._dead_letter = Topics(settings).dead_letter
        self._contents = contents
        self._releases = releases
        self._first_offsets = first_offsets
        self._layout = StateLayout.from_settings(settings)
        self._rankings = {ranking.event_position: ranking for ranking in contents.rankings}
        self._feedback = {(feedback.partition, feedback.offset): feedback for feedback in contents.feedback}

    def audit(self, partition: int) -> PartitionFindings:
        """Replay the partition's events from its start, and compare the rankings, the feedback and the saved states."""
        records, first_offset = self._contents.events[partition], self._first_offsets.get(partition, 0)
        received, letters = decode_events(records, self._max_message_bytes)
        reference = ReferenceRun(self._releases, self._layout)
        reference.replay(received, _ReleaseOfEvent(self._rankings, first_offset))
        to_rank = [event for event in received if event.offset >= first_offset]
        unique_offsets = find_unique(received, self._layout.recent_events)
        accepted = [event for event in to_rank if event.offset in unique_offsets]
        findings = PartitionFindings(
            expected={(partition, event.offset): LoggedEvent(event.event, event.appended_ms) for event in accepted},
            rejected={
                (partition, letter.record.offset): letter.to_record(self._dead_letter)
                for letter in letters
                if letter.record.offset >= first_offset
            },
            ignored=len(to_rank) - len(accepted),
            mislabelled=sum(self._count_mislabelled(event) for event in accepted),
            misranked=sum(self._is_misranked(event, reference) for event in accepted),
        )
        findings.misjoined, last_rankings = self._check_feedback(accepted)
        for ranking in last_rankings.values():
            reference.restore_slates(ranking.ranking)
        self._check_states(findings, partition, records[-1].offset + 1, reference)
        return findings

    def _count_mislabelled(self, event: DecodedEvent) -> int:
        """How many of the event's ranking and feedback name another event."""
        position, count = (event.partition, event.offset), 0
        if position in self._rankings:
            ranking = self._rankings[position].ranking
            label = (ranking.user_id, ranking.cause.event_id, ranking.cause.ts)
            count += label != (event.event.user_id, event.event.event_id, event.event.ts)
        return count + (position in self._feedback and self._feedback[position].event != event.event)

    def _is_misranked(self, event: DecodedEvent, reference: ReferenceRun) -> bool:
        position = (event.partition, event.offset)
        if position not in self._rankings:
            return False
        ranking, expected = self._rankings[position].ranking, reference.scores[position]
        slates = ranking.by_placement.values()
        scores = [[item.score for item in slate] for slate in slates]
        if len(scores) == len(expected) and all(map(is_same_slate, scores, expected)):
            return False
        log.warning(
            "partition %d, offset %d: scores of release %s are %s, of the reference run %s",
            *position,
            ranking.release,
            scores,
            expected,
        )
        return True

    def _check_feedback(self, accepted: Sequence[DecodedEvent]) -> tuple[int, dict[str, LoggedRanking]]:
        """How many feedbacks do not match the user's previous ranking; and the last ranking of each user."""
        last_rankings: dict[str, LoggedRanking] = {}
        misjoined = 0
        for event in accepted:
            position, user_id = (event.partition, event.offset), event.event.user_id
            if position in self._feedback:
                expected = _expected_label(event, last_rankings.get(user_id))
                misjoined += _label(self._feedback[position]) != expected
            if position in self._rankings:
                last_rankings[user_id] = self._rankings[position]
        return misjoined, last_rankings

    def _check_states(
        self, findings: PartitionFindings, partition: int, end_offset: int, reference: ReferenceRun
    ) -> None:
        """Compare the saved states with those of the reference run, if they cover every event up to `end_offset`."""
        saved = self._contents.saved_states.get(partition)
        expected = reference.final_states()
        states = restore_states(saved.states if saved else {}, self._releases, self._layout)
        findings.users = len(expected)
        findings.diverged = len(states.keys() - expected.keys())
        if saved is None or saved.marker.offset < end_offset:
            findings.unsaved = len(expected)
        else:
            for user_id, state in expected.items():
                fields = _differing_fields(states.get(user_id), state)
                findings.diverged += bool(fields)
                if fields:
                    log.warning("partition %d: a saved state differs from the reference run's in %s", partition, fields)


def _differing_fields(saved: UserState | None, expected: UserState) -> str:
    """The names of the fields in which two states differ; empty if they are equal."""
    if saved is None:
        return "everything: it is missing"
    fields = UserState.__struct_fields__
    return ", ".join(name for name in fields if getattr(saved, name) != getattr(expected, name))


def find_unique(received: Sequence[DecodedEvent], window: int) -> set[int]:
    """Offsets of one partition's events whose id is not among the newest `window` ids of their user, and of all
    impressions, which have no part in that."""
    recent: dict[str, deque[str]] = {}
    unique = set()
    for event in received:
        if not event.event.is_action:
            unique.add(event.offset)
            continue
        of_user = recent.setdefault(event.event.user_id, deque(maxlen=window))
        if event.event.event_id not in of_user:
            of_user.append(event.event.event_id)
            unique.add(event.offset)
    return unique


class _ReleaseOfEvent:
    """The release that ranked an event; for a duplicate, that of the event before it. Call it in order of offset."""

    def __init__(self, rankings: Mapping[EventPosition, LoggedRanking], first_offset: int) -> None:
        self._rankings = rankings
        self._first_offset = first_offset
        self._previous: str | None = None

    def __call__(self, event: DecodedEvent) -> str | None:
        if event.offset < self._first_offset:
            return None
        ranking = self._rankings.get((event.partition, event.offset))
        if ranking is not None:
            self._previous = ranking.ranking.release
        return self._previous


def _label(feedback: Feedback) -> JoinedLabel:
    return feedback.release, feedback.slate_size, feedback.rank, feedback.propensity, feedback.ranks


def _expected_label(event: DecodedEvent, previous: LoggedRanking | None) -> JoinedLabel:
    if previous is None:
        return None, 0, None, None, {}
    ranking = previous.ranking
    item_id = event.event.item_of_interest
    rank = _rank(item_id, ranking.slate)
    ranks = {name: _rank(item_id, slate) for name, slate in ranking.slates.items()}
    on_slates = {name: number for name, number in ranks.items() if number is not None}
    return ranking.release, len(ranking.slate), rank, ranking.propensity(rank), on_slates


def _rank(item_id: str | None, slate: Sequence[RankedItem]) -> int | None:
    item_ids = [item.item_id for item in slate]
    return item_ids.index(item_id) + 1 if item_id in item_ids else None
