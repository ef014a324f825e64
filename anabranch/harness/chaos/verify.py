"""The ledger: from the topics alone, whether every event got what it was due, once, in order, from the right state."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence

from kafka.consumer.fetcher import ConsumerRecord
from msgspec import Struct
from prometheus_client import CollectorRegistry

from anabranch import messages, release
from anabranch.harness.chaos.reference import Reference, Releases, saved
from anabranch.harness.environment.reconciliation import Answer, Place, Published, ledger
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY, Feedback, SavedState, StateMarker
from anabranch.metrics import RankerMetrics
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import NeighbourTable
from anabranch.ranking.user_state.store import StateLayout
from anabranch.ranking.vocabulary import ItemIds, ReleaseNumbers
from anabranch.settings import Settings
from consumers.releases.release_watcher import neighbour_row
from consumers.releases.staging import by_release, vector_change
from consumers.runtime.dead_letter import Letter
from consumers.runtime.decoding import Received, decode

log = logging.getLogger(__name__)

MUST_BE_0 = ("lost", "duplicated", "out_of_order", "mislabelled", "misranked", "misjoined", "diverged", "unsaved")
SAME_SHARE, SAME_SCORE = 0.9, 1e-3
"""A slate is the reference's if so many of its scores are in both, as close. Of items alike either may be shown; the
last bits of scores depend on how events fell into batches, and may let one item in for another at the edge of the
candidates, which shifts those behind it."""


class Findings(Struct, frozen=True, kw_only=True):
    """Whether it all adds up. The last six must be 0."""

    events: int
    accepted: int
    """Events that had to be ranked."""
    ignored: int
    """Duplicates: nothing had to come of them."""
    rejected: int
    """Messages that had to become dead letters."""
    rankings: int
    feedback: int
    dead_letters: int
    by_release: dict[str, int]
    """Rankings, by the release that made them."""
    rolled_back: int
    """Rankings on the topic that readers of committed messages never saw."""
    users: int
    lost: int
    """Accepted events without ranking or without feedback, rejected ones without their dead letter as it came."""
    duplicated: int
    """Rankings, feedback and dead letters beyond the first; and those of events that were due none."""
    out_of_order: int
    mislabelled: int
    """Rankings and feedback that do not name the event at their place."""
    misranked: int
    """Rankings that an uninterrupted run would not have made."""
    misjoined: int
    """Feedback that does not say how the event stood to the ranking before it."""
    diverged: int
    """Users whose saved state is not, to the last bit, that of an uninterrupted fold."""
    unsaved: int
    """Users whose saved state lacks events: nothing can be said of it."""

    @property
    def adds_up(self) -> bool:
        """Whether all is as it must be."""
        return not any(getattr(self, name) for name in MUST_BE_0)


def marked(settings: Settings) -> Offsets:
    """The offset up to which each partition's saved states are complete."""
    return {partition: marker.offset for partition, (_, marker) in _saved_states(settings).items()}


def verify(settings: Settings, start: Offsets) -> Findings:
    """Read every topic and balance them. `start`: the offsets from which on events had to be ranked."""
    topics = Topics(settings)
    events = _by_partition(clients.read_to_end(settings, [topics.events]))
    answers = [
        Answer(messages.rankings.decode(record.value), record.timestamp)
        for record in clients.read_to_end(settings, [topics.rankings])
    ]
    feedback = [messages.feedback.decode(record.value) for record in clients.read_to_end(settings, [topics.feedback])]
    dead = _dead_letters(settings, topics)
    releases = _releases(settings, {answer.ranking.release for answer in answers})
    return _balance(settings, start, events, answers, feedback, dead, releases)


def _balance(
    settings: Settings,
    start: Offsets,
    events: Mapping[int, list[ConsumerRecord]],
    answers: Sequence[Answer],
    feedback: Sequence[Feedback],
    dead: Mapping[Place, list[Letter]],
    releases: Releases,
) -> Findings:
    layout, final = StateLayout.of(settings), max(answers, key=lambda one: one.ranking.ts).ranking.release
    ranked = {answer.place: answer for answer in answers}
    given = {(one.partition, one.offset): one for one in feedback}
    states = _saved_states(settings)
    expected: dict[Place, Published] = {}
    rejected: dict[Place, ConsumerRecord] = {}
    ignored = mislabelled = misranked = misjoined = diverged = unsaved = users = 0
    for partition, records in events.items():
        received, letters = decode(records, settings.max_message_bytes)
        rejected |= {
            (partition, one.record.offset): one.record
            for one in letters
            if one.record.offset >= start.get(partition, 0)
        }
        reference = Reference(releases, layout, final)
        reference.fold(received, _RankedBy(ranked, start.get(partition, 0)))
        live = [one for one in received if one.offset >= start.get(partition, 0)]
        fresh = _fresh(received, layout.recent_events)
        accepted = [one for one in live if one.offset in fresh]
        ignored += len(live) - len(accepted)
        mislabelled += sum(_mislabelled(one, ranked, given) for one in accepted)
        misranked += sum(_misranked((partition, one.offset), ranked, reference.scores) for one in accepted)
        expected |= {(partition, one.offset): Published(one.event, one.appended_ms) for one in accepted}
        wrong, shown = _misjoined(accepted, ranked, given)
        misjoined += wrong
        for answer in shown.values():
            reference.show(answer.ranking)

        found, marker = states.get(partition, ({}, None))
        end = records[-1].offset + 1
        complete = marker is not None and marker.offset >= end
        due = reference.final()
        users += len(due)
        unsaved += 0 if complete else len(due)
        kept = saved(found, releases, layout, final)
        diverged += sum(kept.get(user) != state for user, state in due.items()) if complete else 0
        diverged += len(kept.keys() - due.keys())
    balanced = ledger(expected, answers, feedback, [])
    return Findings(
        events=sum(len(records) for records in events.values()),
        accepted=len(expected),
        ignored=ignored,
        rejected=len(rejected),
        rankings=len(answers),
        feedback=len(feedback),
        dead_letters=sum(len(letters) for letters in dead.values()),
        by_release=dict(Counter(answer.ranking.release for answer in answers)),
        rolled_back=_rolled_back(settings, len(answers)),
        users=users,
        lost=balanced.lost + len(expected.keys() - given.keys()) + _not_as_they_came(rejected, dead),
        duplicated=_beyond(answers, feedback, dead, expected.keys(), rejected.keys()),
        out_of_order=balanced.out_of_order,
        mislabelled=mislabelled,
        misranked=misranked,
        misjoined=misjoined,
        diverged=diverged,
        unsaved=unsaved,
    )


def _fresh(received: Sequence[Received], window: int) -> set[int]:
    """Offsets of one partition's events that repeat none of their user's newest so many: judged by their ids alone."""
    recent: dict[str, deque[str]] = {}
    fresh = set()
    for one in received:
        mine = recent.setdefault(one.event.user_id, deque(maxlen=window))
        if one.event.event_id not in mine:
            mine.append(one.event.event_id)
            fresh.add(one.offset)
    return fresh


def _mislabelled(one: Received, ranked: Mapping[Place, Answer], given: Mapping[Place, Feedback]) -> int:
    place = (one.partition, one.offset)
    wrong = 0
    if place in ranked:
        ranking = ranked[place].ranking
        named = (ranking.user_id, ranking.cause.event_id, ranking.cause.ts)
        wrong += named != (one.event.user_id, one.event.event_id, one.event.ts)
    return wrong + (place in given and given[place].event != one.event)


def _misranked(place: Place, ranked: Mapping[Place, Answer], due: Mapping[Place, Sequence[float]]) -> bool:
    if place not in ranked:
        return False
    ranking, expected = ranked[place].ranking, due[place]
    scores = [item.score for item in ranking.slate]
    if len(scores) == len(expected) and _in_both(scores, expected) >= SAME_SHARE * len(expected):
        return False
    log.warning(
        "partition %d, offset %d: release %s scored %s, the reference %s", *place, ranking.release, scores, expected
    )
    return True


def _in_both(scores: Sequence[float], others: Sequence[float]) -> int:
    """How many scores of two lists, both falling, can be paired."""
    one = other = paired = 0
    while one < len(scores) and other < len(others):
        difference = scores[one] - others[other]
        paired += abs(difference) < SAME_SCORE
        one += difference > -SAME_SCORE
        other += difference < SAME_SCORE
    return paired


class _RankedBy:
    """Which release an event was ranked by; a duplicate goes with the event before it in the log."""

    def __init__(self, ranked: Mapping[Place, Answer], start: int) -> None:
        self._ranked = ranked
        self._start = start
        self._before: str | None = None

    def __call__(self, one: Received) -> str | None:
        if one.offset < self._start:
            return None
        answer = self._ranked.get((one.partition, one.offset))
        if answer is not None:
            self._before = answer.ranking.release
        return self._before


def _misjoined(
    accepted: Sequence[Received], ranked: Mapping[Place, Answer], given: Mapping[Place, Feedback]
) -> tuple[int, dict[str, Answer]]:
    """How much feedback does not agree with the user's ranking before; and the last ranking of each user."""
    shown: dict[str, Answer] = {}
    wrong = 0
    for one in accepted:
        place = (one.partition, one.offset)
        if place in given:
            wrong += _said(given[place]) != _due(one, shown.get(one.event.user_id))
        if place in ranked:
            shown[one.event.user_id] = ranked[place]
    return wrong, shown


def _said(feedback: Feedback) -> tuple[str | None, int, int | None]:
    return feedback.release, feedback.slate_size, feedback.rank


def _due(one: Received, before: Answer | None) -> tuple[str | None, int, int | None]:
    if before is None:
        return None, 0, None
    items = [ranked.item_id for ranked in before.ranking.slate]
    rank = items.index(one.event.item_id) + 1 if one.event.item_id in items else None
    return before.ranking.release, len(items), rank


def _beyond(
    answers: Sequence[Answer],
    feedback: Sequence[Feedback],
    dead: Mapping[Place, list[Letter]],
    expected: Collection[Place],
    rejected: Collection[Place],
) -> int:
    """What was published twice, or of events that were due nothing."""
    places = [
        (Counter(answer.place for answer in answers), expected),
        (Counter((one.partition, one.offset) for one in feedback), expected),
        (Counter({place: len(letters) for place, letters in dead.items()}), rejected),
    ]
    return sum(count - (place in due) for counted, due in places for place, count in counted.items())


def _not_as_they_came(rejected: Mapping[Place, ConsumerRecord], dead: Mapping[Place, list[Letter]]) -> int:
    return sum(
        not any((letter.key, letter.value) == (record.key, record.value) for letter in dead.get(place, ()))
        for place, record in rejected.items()
    )


def _by_partition(records: Iterable[ConsumerRecord]) -> dict[int, list[ConsumerRecord]]:
    found: dict[int, list[ConsumerRecord]] = defaultdict(list)
    for record in records:
        found[record.partition].append(record)
    return found


def _dead_letters(settings: Settings, topics: Topics) -> dict[Place, list[Letter]]:
    """Dead letters of `events`, by where they stood."""
    found: dict[Place, list[Letter]] = defaultdict(list)
    for record in clients.read_to_end(settings, [topics.dead_letter]):
        letter = Letter.of(record)
        if letter.topic == topics.events:
            found[letter.partition, letter.offset].append(letter)
    return found


def _saved_states(settings: Settings) -> dict[int, tuple[dict[str, SavedState], StateMarker]]:
    """The newest saved states and marker of every partition that has a marker."""
    newest: dict[tuple[int, bytes], bytes] = {}
    for record in clients.read_to_end(settings, [Topics(settings).user_state]):
        newest[record.partition, record.key] = record.value
    markers = {
        partition: messages.state_markers.decode(value)
        for (partition, key), value in newest.items()
        if key == STATE_MARKER_KEY
    }
    states: dict[int, dict[str, SavedState]] = {partition: {} for partition in markers}
    for (partition, key), value in newest.items():
        if key != STATE_MARKER_KEY and partition in states:
            states[partition][key.decode()] = messages.user_states.decode(value)
    return {partition: (states[partition], marker) for partition, marker in markers.items()}


def _releases(settings: Settings, names: set[str]) -> Releases:
    """Releases with the index that ranked: the vectors are those on the topic."""
    item_ids, numbers = ItemIds(), ReleaseNumbers()
    vectors = clients.read_to_end(settings, [Topics(settings).item_vectors])
    entries = by_release(vectors, RankerMetrics(CollectorRegistry()))
    live = {}
    for name in sorted(names):
        files = release.opened(release.folder_of(settings.releases_dir, name))
        made = LiveRelease.load(files, files.manifest, numbers.number(name))
        change = vector_change(name, entries[name], item_ids)
        if change is not None:
            change.apply(made.index)
        live[name] = made
    return Releases(live, _neighbours(settings, item_ids), item_ids, numbers, Policy.of(settings))


def _neighbours(settings: Settings, item_ids: ItemIds) -> NeighbourTable:
    table = NeighbourTable(settings.neighbours)
    for record in clients.read_to_end(settings, [Topics(settings).neighbours]):
        neighbour_row(messages.neighbours.decode(record.value), item_ids).apply(table)
    return table


def _rolled_back(settings: Settings, committed: int) -> int:
    topic = Topics(settings).rankings
    written = sum(1 for _ in clients.read_to_end(settings, [topic], isolation_level="read_uncommitted"))
    return written - committed
