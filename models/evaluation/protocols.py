"""Several rankers on the same events: the release candidate, the incumbent and the co-visit table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.rank import NO_SLATE
from models.co_visit.model import CoVisitModel
from models.data.event_log import NONE, EventLog
from models.evaluation.prequential import predict
from models.evaluation.slices import Mask, cut_slices
from models.metrics.ranking import Ranks
from models.offline.offline_ranker import OfflineRanker, rank_events
from models.stages import Advance


@dataclass(frozen=True)
class Trial:
    """Where the items of M events stood: on the candidate's slates, the incumbent's and the co-visit table's."""

    user: NDArray[np.int32]  # [M]
    candidate: Ranks  # [M]
    incumbent: Ranks | None  # [M], None where nothing serves yet
    co_visit: Ranks  # [M]
    slices: Mapping[str, Mask] = field(default_factory=dict)
    """Which of the events belong to each slice, [M] each; see `cut_slices`."""


def run_trial(
    candidate: OfflineRanker,
    incumbent: OfflineRanker | None,
    co_visit: CoVisitModel,
    log: EventLog,
    start: int,
    done: Advance = lambda n: None,
    domains: Sequence[str | None] = (),
) -> Trial:
    """All three on the events from `start` on whose user had a slate.

    `co_visit` has learned the log up to `start`, and learns on, event by event, to its end. `done(n)` is told of
    every n events, each of the log's counting once for everyone in the trial. `domains` are the items', by number.
    """
    candidate_ranks = rank_events(candidate, log, start, done).rank
    incumbent_ranks = None if incumbent is None else rank_events(incumbent, log, start, done).rank
    judged = (candidate_ranks != NO_SLATE) & (log.item[start:] != NONE)
    scored = np.concatenate([np.zeros(start, np.bool_), judged])
    predicted = predict(log, scored, [co_visit], candidate.policy, done, learned=start)
    return Trial(
        user=log.user[start:][judged],
        candidate=candidate_ranks[judged],
        incumbent=None if incumbent_ranks is None else incumbent_ranks[judged],
        co_visit=np.array(predicted.ranks[co_visit.name], np.int32),
        slices=cut_slices(log, start, np.flatnonzero(scored), np.array(predicted.repeat, np.bool_), domains),
    )
