"""Checks the topics of a chaos run: every event has its answers, once, in order, and from the right user state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from anabranch.harness.chaos.contents import TopicContents
from anabranch.harness.chaos.partition_audit import PartitionAuditor, PartitionFindings
from anabranch.harness.chaos.reference import ReleaseSet
from anabranch.harness.environment.reconciliation import EventPosition, LoggedEvent, reconcile
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.release_topic import read_release_notices
from anabranch.settings import Settings
from consumers.runtime.dead_letter import StoredDeadLetter

MUST_BE_ZERO = ("lost", "duplicated", "out_of_order", "mislabelled", "misranked", "misjoined", "diverged", "unsaved")


class Findings(Struct, frozen=True, kw_only=True):
    """What the topics hold. The last eight counts must be 0."""

    events: int
    accepted: int
    """Events that had to be ranked."""
    ignored: int
    """Duplicates, which had to lead to no message."""
    rejected: int
    """Messages that had to become dead letters."""
    rankings: int
    feedback: int
    dead_letters: int
    by_release: dict[str, int]
    """Rankings by the release that made them."""
    rolled_back: int
    """Rankings in aborted transactions, which a reader with `read_committed` does not see."""
    users: int
    lost: int
    """Accepted events without a ranking or feedback, and rejected messages without the dead letter they must have."""
    duplicated: int
    """Rankings, feedback and dead letters beyond an event's first, and those for events that had to have none."""
    out_of_order: int
    """Rankings that stand behind the ranking of a later event of the same user."""
    mislabelled: int
    """Rankings and feedback whose user, event id or time is not that of the event at their offset."""
    misranked: int
    """Rankings that differ from those of the uninterrupted reference run."""
    misjoined: int
    """Feedback whose release, slate size or rank does not match the user's previous ranking."""
    diverged: int
    """Users whose saved state is not, bit for bit, that of the reference run."""
    unsaved: int
    """Users of partitions whose saved states do not cover every event, so that they cannot be compared."""

    @property
    def adds_up(self) -> bool:
        """Whether every count that must be 0 is 0."""
        return not any(getattr(self, name) for name in MUST_BE_ZERO)


def verify(settings: Settings, contents: TopicContents, first_offsets: Offsets) -> Findings:
    """Check what the topics hold. Events from `first_offsets` on had to be ranked."""
    live = read_release_notices(settings).live
    assert live is not None, "a run announces releases, and retires none without another"
    releases = ReleaseSet.load(settings, {ranking.ranking.release for ranking in contents.rankings}, live.release)
    auditor = PartitionAuditor(settings, contents, releases, first_offsets)
    return _combine(contents, [auditor.audit(partition) for partition in contents.events])


def _combine(contents: TopicContents, partitions: Sequence[PartitionFindings]) -> Findings:
    expected: dict[EventPosition, LoggedEvent] = {}
    rejected: dict[EventPosition, OutboundRecord] = {}
    for findings in partitions:
        expected |= findings.expected
        rejected |= findings.rejected
    feedback_positions = {(feedback.partition, feedback.offset) for feedback in contents.feedback}
    balance = reconcile(expected, contents.rankings, contents.feedback, [])
    return Findings(
        events=sum(map(len, contents.events.values())),
        accepted=len(expected),
        ignored=sum(findings.ignored for findings in partitions),
        rejected=len(rejected),
        rankings=len(contents.rankings),
        feedback=len(contents.feedback),
        dead_letters=sum(map(len, contents.dead_letters.values())),
        by_release=dict(Counter(ranking.ranking.release for ranking in contents.rankings)),
        rolled_back=contents.aborted_rankings,
        users=sum(findings.users for findings in partitions),
        lost=(
            balance.lost
            + len(expected.keys() - feedback_positions)
            + _count_altered_dead_letters(rejected, contents.dead_letters)
        ),
        duplicated=_count_excess(contents, expected.keys(), rejected.keys()),
        out_of_order=balance.out_of_order,
        mislabelled=sum(findings.mislabelled for findings in partitions),
        misranked=sum(findings.misranked for findings in partitions),
        misjoined=sum(findings.misjoined for findings in partitions),
        diverged=sum(findings.diverged for findings in partitions),
        unsaved=sum(findings.unsaved for findings in partitions),
    )


def _count_excess(
    contents: TopicContents, expected: Collection[EventPosition], rejected: Collection[EventPosition]
) -> int:
    """Messages beyond the one that each expected or rejected event had to have, and those for other events."""
    counts = [
        (Counter(ranking.event_position for ranking in contents.rankings), expected),
        (Counter((feedback.partition, feedback.offset) for feedback in contents.feedback), expected),
        (Counter({position: len(letters) for position, letters in contents.dead_letters.items()}), rejected),
    ]
    return sum(count - (position in due) for counter, due in counts for position, count in counter.items())


def _count_altered_dead_letters(
    rejected: Mapping[EventPosition, OutboundRecord], letters: Mapping[EventPosition, list[StoredDeadLetter]]
) -> int:
    """Rejected messages that have no dead letter with the key and value that theirs must have."""
    return sum(
        not any(
            (letter.key, letter.value or b"") == (due.key, due.value or b"") for letter in letters.get(position, ())
        )
        for position, due in rejected.items()
    )
