"""Predict, then learn: what was served against the baselines, on exactly the same events.

A baseline sees every event before it makes the slate for the next, so it is at least as fresh as what was served,
and its slate passes the same filters. Its slate for an event is made at the event; nothing it could use has
happened to the user since the slate that was served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.messages import Event, Feedback
from anabranch.ranking.pipeline.rank import NO_SLATE, NOT_ON_SLATE
from anabranch.ranking.policy import Policy
from models.data.event_log import NONE, EventLog
from models.data.history import Histories, visits
from models.evaluation.baselines import Baseline, baselines
from models.metrics.bootstrap import Interval, paired_interval
from models.metrics.ranking import Ranks, discounted_gains, hits, mrr_at, ndcg_at, recall_at
from models.offline.offline_ranker import OfflineRankings

K = 20
SERVED = "served"
PROGRESS_EVERY = 1000


@dataclass(frozen=True)
class ServedLog:
    """A log, and what its users had been shown: N events, those before the ranker started among them."""

    log: EventLog
    rank: Ranks  # [N] NO_SLATE where the user had none, NOT_ON_SLATE, or the place from 1
    release: NDArray[np.int32]  # [N] position in `releases`, -1 without a slate
    releases: tuple[str, ...]

    @classmethod
    def of(cls, warm_up: Iterable[Event], feedback: Iterable[Feedback]) -> ServedLog:
        """Events that were only learned from, and those that were ranked, put in order of time."""
        events = list(warm_up)
        learned = len(events)
        answers = list(feedback)
        events.extend(answer.event for answer in answers)
        releases = {name: at for at, name in enumerate(sorted({one.release for one in answers if one.release}))}
        rank = np.full(len(events), NO_SLATE, np.int32)
        release = np.full(len(events), -1, np.int32)
        rank[learned:] = [_rank(answer) for answer in answers]
        release[learned:] = [releases.get(answer.release or "", -1) for answer in answers]
        in_time = np.argsort([event.ts for event in events], kind="stable")
        return cls(EventLog.from_events(events), rank[in_time], release[in_time], tuple(releases))

    @classmethod
    def from_offline(cls, log: EventLog, rankings: OfflineRankings, release_id: str) -> ServedLog:
        """The log that a release would have left had it served `rankings` for the newest events of `log`."""
        rank = np.full(len(log), NO_SLATE, np.int32)
        rank[len(log) - len(rankings.rank) :] = rankings.rank
        release = np.where(rank == NO_SLATE, -1, 0).astype(np.int32)
        return cls(log, rank, release, (release_id,))

    @property
    def scored(self) -> NDArray[np.bool_]:
        """[N] events about an item whose user had a slate."""
        scored: NDArray[np.bool_] = (self.rank != NO_SLATE) & (self.log.item != NONE)
        return scored


def _rank(answer: Feedback) -> int:
    if answer.release is None:
        return NO_SLATE
    return NOT_ON_SLATE if answer.rank is None else answer.rank


class Scores(Struct, frozen=True, kw_only=True):
    """One ranker on some events."""

    events: int
    recall_at_20: float
    ndcg_at_20: float
    mrr_at_20: float

    @classmethod
    def of(cls, ranks: Ranks) -> Scores:
        return cls(
            events=len(ranks),
            recall_at_20=recall_at(ranks, K),
            ndcg_at_20=ndcg_at(ranks, K),
            mrr_at_20=mrr_at(ranks, K),
        )


class Lead(Struct, frozen=True, kw_only=True):
    """What was served minus a baseline, with 95 % intervals over users."""

    recall_at_20: Interval
    ndcg_at_20: Interval


class Comparison(Struct, frozen=True, kw_only=True):
    """Everyone on the same events."""

    scores: dict[str, Scores]
    lead: dict[str, Lead]
    """Baseline → served minus baseline; empty without events."""


class Prequential(Struct, frozen=True, kw_only=True):
    """The whole account: overall, per release on the events it served, and by slice."""

    overall: Comparison
    releases: dict[str, Comparison]
    slices: dict[str, Comparison]


@dataclass
class Predicted:
    """Ranks by baseline, and what is known of the event at prediction time, for the M scored events."""

    ranks: dict[str, list[int]]
    repeat: list[bool] = field(default_factory=list)
    first_of_session: list[bool] = field(default_factory=list)


def account(
    served: ServedLog,
    rivals: Sequence[Baseline] | None = None,
    *,
    policy: Policy | None = None,
    done: Callable[[int], None] = lambda n: None,
) -> Prequential:
    """Score what was served and the baselines on every event whose user had a slate.

    The baselines' slates pass the filters of the policy that served. `done(n)` is told of every n events of the log.
    """
    predicted = predict(served.log, served.scored, baselines() if rivals is None else rivals, policy, done)
    scored = served.scored
    ranks = {SERVED: served.rank[scored]}
    ranks |= {name: np.array(places, np.int32) for name, places in predicted.ranks.items()}
    user, release = served.log.user[scored], served.release[scored]
    repeat, first = np.array(predicted.repeat, bool), np.array(predicted.first_of_session, bool)
    slices = {"repeat": repeat, "new_to_user": ~repeat, "first_of_session": first}
    return Prequential(
        overall=compare(ranks, user),
        releases={name: _compare_at(ranks, user, release == at) for at, name in enumerate(served.releases)},
        slices={name: _compare_at(ranks, user, where) for name, where in slices.items()},
    )


def compare(ranks: dict[str, Ranks], user: NDArray[np.integer]) -> Comparison:
    """Scores of each, and what `served` leads the others by."""
    lead = {name: _lead(ranks[SERVED], places, user) for name, places in ranks.items() if name != SERVED and len(user)}
    return Comparison(scores={name: Scores.of(places) for name, places in ranks.items()}, lead=lead)


def predict(
    log: EventLog,
    scored: NDArray[np.bool_],
    rivals: Sequence[Baseline],
    policy: Policy | None = None,
    done: Callable[[int], None] = lambda n: None,
    learned: int = 0,
) -> Predicted:
    """Run the baselines over the log, and note where the item of each scored event stood on their slates.

    They are taken to have learned the first `learned` events already.
    """
    policy = policy or Policy()
    predicted = Predicted(ranks={rival.name: [] for rival in rivals})
    histories = Histories()
    visited: dict[int, set[int]] = {}
    for at, ((user, item, ts, session), wanted) in enumerate(zip(visits(log), scored.tolist(), strict=True), start=1):
        history, own = histories.get(user), visited.setdefault(user, set())
        if wanted:
            exclude: set[int] = set() if policy.allow_session_repeats else history.session_items()
            if policy.exclude_seen:
                exclude |= own
            predicted.repeat.append(item in own)
            for rival in rivals:
                slate = rival.slate(user, K, exclude)
                predicted.ranks[rival.name].append(slate.index(item) + 1 if item in slate else NOT_ON_SLATE)
        history.enter(item, ts, session)
        if wanted:
            predicted.first_of_session.append(history.session_length == 1)
        if item != NONE:
            own.add(item)
        if at > learned:
            for rival in rivals:
                rival.learn(user, item, ts, session)
        if at % PROGRESS_EVERY == 0:
            done(PROGRESS_EVERY)
    done(len(log) % PROGRESS_EVERY)
    return predicted


def _compare_at(ranks: dict[str, Ranks], user: NDArray[np.integer], where: NDArray[np.bool_]) -> Comparison:
    return compare({name: places[where] for name, places in ranks.items()}, user[where])


def _lead(ours: Ranks, theirs: Ranks, user: NDArray[np.integer]) -> Lead:
    return Lead(
        recall_at_20=paired_interval(hits(ours, K), hits(theirs, K), user),
        ndcg_at_20=paired_interval(discounted_gains(ours, K), discounted_gains(theirs, K), user),
    )
