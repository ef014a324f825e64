"""Prequential evaluation: predict, then learn. What was served is compared with baselines on the same events.

A baseline learns every event before it predicts the next one, so it is at least as fresh as what was served, and its
slate passes the same filters. It is made at the event; between the served slate and the event the user did nothing that
the baseline could use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.messages import Event, Feedback
from anabranch.placements import FOR_YOU
from anabranch.ranking.pipeline.feedback import NO_SLATE, NOT_ON_SLATE
from models.data.event_log import NONE, EventLog
from models.data.excluded_items import SlateRules, excluded_items, own_items
from models.data.history import Histories, visits
from models.evaluation.baselines import Baseline, Scored
from models.evaluation.slices import new_users, placement_events, repeats
from models.metrics.bootstrap import Interval, paired_interval
from models.metrics.ranking import Ranks, discounted_gains, hits, mrr_at, ndcg_at, recall_at
from models.offline.offline_ranker import OfflineRankings

K = 20
SERVED = "served"
PROGRESS_EVERY = 1000


@dataclass(frozen=True)
class ServedLog:
    """N events in time order, and the position of each event's item on the slate that its user had."""

    log: EventLog
    ranks: Ranks  # [N, P] by placement: NO_SLATE, NOT_ON_SLATE, or the position from 1
    release: NDArray[np.int32]  # [N] index into `releases`, -1 without a slate
    releases: tuple[str, ...]

    @property
    def rank(self) -> Ranks:
        """[N] on the first placement"""
        return self.ranks[:, 0]

    @classmethod
    def from_feedback(
        cls, warm_up: Iterable[Event], feedback: Iterable[Feedback], placements: Sequence[str] = (FOR_YOU.name,)
    ) -> ServedLog:
        """The log of `warm_up` events, which were not ranked, and of the ranked events in `feedback`."""
        events = [event for event in warm_up if event.is_action]
        warm_up_events = len(events)
        joined = [row for row in feedback if row.event.is_action]
        events.extend(row.event for row in joined)
        releases = {name: index for index, name in enumerate(sorted({row.release for row in joined if row.release}))}
        ranks = np.full((len(events), len(placements)), NO_SLATE, np.int32)
        release = np.full(len(events), -1, np.int32)
        for number, name in enumerate(placements):
            ranks[warm_up_events:, number] = [_rank(row, name) for row in joined]
        release[warm_up_events:] = [releases.get(row.release or "", -1) for row in joined]
        by_time = np.argsort([event.ts for event in events], kind="stable")
        return cls(EventLog.from_events(events), ranks[by_time], release[by_time], tuple(releases))

    @classmethod
    def from_offline(cls, log: EventLog, rankings: OfflineRankings, release_id: str) -> ServedLog:
        """The log that a release would have left had it served `rankings` for the newest events of `log`."""
        unranked = np.full((len(log) - len(rankings.ranks), rankings.ranks.shape[1]), NO_SLATE, np.int32)
        ranks = np.concatenate([unranked, rankings.ranks])
        release = np.where(ranks[:, 0] == NO_SLATE, -1, 0).astype(np.int32)
        return cls(log, ranks, release, (release_id,))

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Mask [N] of the events about an item whose user had a slate."""
        scored: NDArray[np.bool_] = (self.rank != NO_SLATE) & (self.log.item != NONE)
        return scored


def _rank(feedback: Feedback, placement: str) -> int:
    if feedback.release is None:
        return NO_SLATE
    rank = feedback.rank if placement == feedback.placement else feedback.ranks.get(placement)
    return NOT_ON_SLATE if rank is None else rank


class Scores(Struct, frozen=True, kw_only=True):
    """Metrics of one ranker."""

    events: int
    recall_at_20: float
    ndcg_at_20: float
    mrr_at_20: float

    @classmethod
    def from_ranks(cls, ranks: Ranks) -> Scores:
        """Metrics of ranks [M]; 0 without events."""
        return cls(
            events=len(ranks),
            recall_at_20=recall_at(ranks, K),
            ndcg_at_20=ndcg_at(ranks, K),
            mrr_at_20=mrr_at(ranks, K),
        )


class PairedImprovement(Struct, frozen=True, kw_only=True):
    """What was served minus a baseline on the same events, with 95 % intervals over users."""

    recall_at_20: Interval
    ndcg_at_20: Interval


class Comparison(Struct, frozen=True, kw_only=True):
    """Every ranker on the same events."""

    scores: dict[str, Scores]
    improvement: dict[str, PairedImprovement]
    """Baseline → served minus baseline; empty without events."""


class Prequential(Struct, frozen=True, kw_only=True):
    """Overall, for each release on the events it served, by slice, and for each further placement on the events that it
    is for."""

    overall: Comparison
    releases: dict[str, Comparison]
    slices: dict[str, Comparison]
    placements: dict[str, Comparison] = {}


@dataclass(frozen=True)
class Question:
    """Slates that baselines are asked for."""

    events: NDArray[np.bool_]  # [N] those before which the baselines are asked
    rules: SlateRules


@dataclass
class BaselineRanks:
    """Ranks of M scored events by baseline, and facts about each event at prediction time."""

    ranks: dict[str, list[int]]
    first_of_session: list[bool] = field(default_factory=list)


def evaluate_prequentially(
    served: ServedLog,
    rules: SlateRules,
    against: Sequence[Baseline],
    *,
    done: Callable[[int], None] = lambda n: None,
) -> Prequential:
    """Score what was served and the baselines on every event about an item whose user had a slate.

    The slates of `against` keep to the `rules` of what served. Calls `done(n)` after every n events of the log.
    """
    scored = served.scored
    repeat = repeats(served.log)
    questions = placement_questions(rules, scored, repeat)
    predicted, *further = predict(served.log, against, questions, done)
    ranks = {SERVED: served.rank[scored]}
    ranks |= {name: np.array(values, np.int32) for name, values in predicted.ranks.items()}
    user, release = served.log.user[scored], served.release[scored]
    first = np.array(predicted.first_of_session, bool)
    slices = {"repeat": repeat[scored], "new_to_user": ~repeat[scored], "first_of_session": first}
    slices |= new_users(served.log, np.flatnonzero(scored))
    return Prequential(
        overall=compare(ranks, user),
        releases={name: _compare_slice(ranks, user, release == index) for index, name in enumerate(served.releases)},
        slices={name: _compare_slice(ranks, user, mask) for name, mask in slices.items()},
        placements={
            question.rules.placement.name: _compare_placement(served, number, question, baselines)
            for number, (question, baselines) in enumerate(zip(questions[1:], further, strict=True), start=1)
        },
    )


def placement_questions(rules: SlateRules, scored: NDArray[np.bool_], repeat: NDArray[np.bool_]) -> list[Question]:
    """One for each placement of the policy: the first one's is asked at every `scored` event [N], each other's at those
    that the placement is for. `repeat` [N] as `repeats` has it."""
    first, *others = rules.by_placement
    further = [Question(scored & placement_events(other.placement, repeat), other) for other in others]
    return [Question(scored, first), *further]


def _compare_placement(served: ServedLog, number: int, question: Question, baselines: BaselineRanks) -> Comparison:
    ranks = {SERVED: served.ranks[question.events, number]}
    ranks |= {name: np.array(values, np.int32) for name, values in baselines.ranks.items()}
    return compare(ranks, served.log.user[question.events])


def compare(ranks: dict[str, Ranks], user: NDArray[np.integer]) -> Comparison:
    """Metrics of every ranker, and the improvement of `served` over the others. `user` [M] groups the events."""
    improvement = {
        name: _improvement(ranks[SERVED], baseline, user)
        for name, baseline in ranks.items()
        if name != SERVED and len(user)
    }
    return Comparison(
        scores={name: Scores.from_ranks(values) for name, values in ranks.items()}, improvement=improvement
    )


def predict(
    log: EventLog,
    against: Sequence[Baseline],
    questions: Sequence[Question],
    done: Callable[[int], None] = lambda n: None,
    trained_events: int = 0,
) -> list[BaselineRanks]:
    """Run the baselines over the log, and record the rank of the event's item on their slates, for each question.

    The baselines were trained on the first `trained_events` events already. Their slates are as long as those of a
    ranker with the same rules, and leave out what it would.
    """
    recorders = [_Recorder(log, against, question) for question in questions]
    histories = Histories(questions[0].rules.layout.history)
    for count, (user, item, ts, session) in enumerate(visits(log), start=1):
        history = histories.get(user)
        active = [recorder for recorder in recorders if recorder.is_asked_at(count - 1)]
        for recorder in active:
            recorder.begin()
        for baseline in against if active else ():
            scored = baseline.scored(user)
            for recorder in active:
                recorder.record(baseline.name, scored, item)
        history.enter(item, ts, session)
        for recorder in active:
            recorder.finish(history.session_length == 1)
        if count > trained_events:
            for baseline in against:
                baseline.learn(user, item, ts, session)
        if count % PROGRESS_EVERY == 0:
            done(PROGRESS_EVERY)
    done(len(log) % PROGRESS_EVERY)
    return [recorder.predicted for recorder in recorders]


class _Recorder:
    """Records the ranks of one question's events."""

    def __init__(self, log: EventLog, against: Sequence[Baseline], question: Question) -> None:
        rows, rules = np.flatnonzero(question.events), question.rules
        self.predicted = BaselineRanks(ranks={baseline.name: [] for baseline in against})
        self._asked: list[bool] = question.events.tolist()
        self._length = rules.slate
        self._excluded = excluded_items(log, rows, rules)
        self._own = own_items(log, rows, rules) if rules.placement.repeats == "only" else None
        self._exclude: set[int] = set()
        self._among: set[int] | None = None
        """What may stand on the slates at the event in hand, as for `Scored.top`."""

    def is_asked_at(self, row: int) -> bool:
        return self._asked[row]

    def begin(self) -> None:
        """Begin the next event."""
        point = len(self.predicted.first_of_session)
        self._exclude = self._excluded.of_point(point)
        self._among = None if self._own is None else self._own.of_point(point)

    def record(self, baseline: str, scored: Scored, item: int) -> None:
        slate = scored.top(self._length, self._exclude, self._among)
        self.predicted.ranks[baseline].append(slate.index(item) + 1 if item in slate else NOT_ON_SLATE)

    def finish(self, first_of_session: bool) -> None:
        """The event is recorded for every baseline."""
        self.predicted.first_of_session.append(first_of_session)


def _compare_slice(ranks: dict[str, Ranks], user: NDArray[np.integer], mask: NDArray[np.bool_]) -> Comparison:
    return compare({name: values[mask] for name, values in ranks.items()}, user[mask])


def _improvement(served: Ranks, baseline: Ranks, user: NDArray[np.integer]) -> PairedImprovement:
    return PairedImprovement(
        recall_at_20=paired_interval(hits(served, K), hits(baseline, K), user),
        ndcg_at_20=paired_interval(discounted_gains(served, K), discounted_gains(baseline, K), user),
    )
