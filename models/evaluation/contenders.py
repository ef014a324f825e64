"""Release candidate, incumbent and co-visit table on the same events, in pairs that the gate can compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.feedback import NO_SLATE
from models.co_visit.model import CoVisitModel
from models.data.event_log import NONE, EventLog
from models.evaluation.prequential import predict
from models.evaluation.slices import Mask, cut_slices
from models.metrics.ranking import Ranks
from models.offline.offline_ranker import OfflineRanker, rank_events
from models.stages import Advance


@dataclass(frozen=True)
class Contenders:
    """What the gate compares."""

    release_candidate: OfflineRanker
    incumbent: OfflineRanker | None
    """The release that serves; None before the first one."""
    co_visit: CoVisitModel

    def __len__(self) -> int:
        return 2 if self.incumbent is None else 3


@dataclass(frozen=True)
class PairedRanks:
    """Positions of the items of the same M events on each contender's slates."""

    user: NDArray[np.int32]  # [M]
    release_candidate: Ranks  # [M]
    incumbent: Ranks | None  # [M], None without an incumbent
    co_visit: Ranks  # [M]
    slices: Mapping[str, Mask] = field(default_factory=dict)
    """Slice → mask [M] of its events; see `cut_slices`."""
    propensity: NDArray[np.float64] | None = None
    """[M] probability with which the event's item was shown, NaN where that is not known; None: nowhere"""


def evaluate_contenders(
    contenders: Contenders,
    log: EventLog,
    start: int,
    domains: Sequence[str | None] = (),
    done: Advance = lambda n: None,
    propensity: NDArray[np.float64] | None = None,
) -> PairedRanks:
    """Rank the events from `start` on whose user has a slate, with every contender.

    The co-visit model was trained on the log up to `start`; it is trained on each later event after predicting it.
    `domains` has each item's domain by item number; `propensity` [N] says how likely each event's item was shown. Calls
    `done(n)` after every n events, `len(contenders)` times the log in all.
    """
    candidate_ranks = rank_events(contenders.release_candidate, log, start, done).rank
    incumbent = contenders.incumbent
    incumbent_ranks = None if incumbent is None else rank_events(incumbent, log, start, done).rank
    compared = (candidate_ranks != NO_SLATE) & (log.item[start:] != NONE)
    scored = np.concatenate([np.zeros(start, np.bool_), compared])
    co_visit, rules = contenders.co_visit, contenders.release_candidate.rules
    predicted = predict(log, scored, [co_visit], rules, done, trained_events=start)
    return PairedRanks(
        user=log.user[start:][compared],
        release_candidate=candidate_ranks[compared],
        incumbent=None if incumbent_ranks is None else incumbent_ranks[compared],
        co_visit=np.array(predicted.ranks[co_visit.name], np.int32),
        slices=cut_slices(log, start, np.flatnonzero(scored), np.array(predicted.repeat, np.bool_), domains),
        propensity=None if propensity is None else propensity[scored],
    )
