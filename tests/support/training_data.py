"""Small training data for encoders: users step through their domain's items, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES
from anabranch.ranking.policy import Policy
from models.data.event_log import NONE, EventColumns, EventLog
from models.data.excluded_items import SlateRules
from models.data.sequences import Sequences
from models.networks.encoder import EncoderConfig, SharedEncoder
from models.seeds.co_visit import CoVisitSeedModel
from models.sharing.strategy import TrainingData
from models.sharing.teachers import Teachers, fit_folds, fold_ends
from models.sharing.training import Training
from tests.support.layouts import LAYOUT

VIEW, PURCHASE, SEARCH = (EVENT_TYPES.index(name) for name in ("view", "purchase", "search"))
USERS, EVENTS, ITEMS, TEXT_DIMS = 24, 20, 20, 12
TRAINING = Training(epochs=2, child_epochs=2, events_per_step=128, negatives=32)


def training_data(
    domains: int = 1,
    types: Sequence[int] = (VIEW,),
    text: bool = False,
    new_since_ms: int = 0,
    seed_models: bool = False,
    items: int = ITEMS,
    searches: bool = False,
) -> TrainingData:
    """One event per user and second, `EVENTS` of them.

    Every domain has the same number of items; the last quarter of the users visits all domains. The last two items have
    no learned residual. With `searches`, a user searches for the text of every item half a second before its event.
    """
    log = _log(domains, types, items)
    log = with_searches(log, log.item) if searches else log
    random = np.random.default_rng(0)
    text_vectors = random.normal(size=(items, TEXT_DIMS)).astype(np.float32) * text
    return TrainingData(
        sequences=Sequences.with_searches(log),
        text_vectors=torch.from_numpy(text_vectors),
        numbers=np.where(np.arange(items) < items - 2, np.arange(items) + 1, 0),
        teachers=_teachers(log.with_items(), text_vectors, new_since_ms) if seed_models else None,
        new_since_ms=new_since_ms,
        domains=1 + np.arange(items) * domains // items,
        query_vectors=torch.from_numpy(text_vectors) if searches else None,
    )


def with_searches(log: EventLog, query: NDArray[np.integer]) -> EventLog:
    """The log with a search half a second before every event [N], by its user; there are as many queries as items."""
    return EventLog.from_columns(
        EventColumns(
            user=np.r_[log.user, log.user],
            item=np.r_[log.item, np.full(len(log), NONE)],
            type=np.r_[log.type, np.full(len(log), SEARCH)],
            ts=np.r_[log.ts, log.ts - 500],
            session=np.r_[log.session, log.session],
            query=np.r_[np.full(len(log), NONE), query],
        ),
        user_ids=log.user_ids,
        item_ids=log.item_ids,
        queries=tuple(f"query {number}" for number in range(len(log.item_ids))),
    )


def _teachers(log: EventLog, text_vectors: NDArray[np.float32], new_since_ms: int) -> Teachers:
    """The co-visit model, fitted to two beginnings of the log."""
    ends = fold_ends(log, new_since_ms, 2)
    folds = fit_folds(lambda: [CoVisitSeedModel()], log, ends, text_vectors, lambda share: None)
    return Teachers(folds, SlateRules(Policy(allow_session_repeats=True), LAYOUT))


def encoder(items: int = ITEMS, dropout: float = 0.0) -> SharedEncoder:
    """An untrained encoder with room for the items of `training_data`."""
    torch.manual_seed(0)
    return SharedEncoder(
        EncoderConfig(items=items + 1, text_dims=TEXT_DIMS, white_dims=8, dims=16, state_dims=16, dropout=dropout)
    )


def _log(domains: int, types: Sequence[int], items: int) -> EventLog:
    user, event = np.divmod(np.arange(USERS * EVENTS), EVENTS)
    size = items // domains
    domain = np.where(user < USERS * 3 // 4, user, event) % domains
    return EventLog.from_columns(
        EventColumns(
            user,
            domain * size + (user + event) % size,
            np.resize(types, len(user)),
            1000 * (1 + event),
            np.zeros(len(user)),
        ),
        user_ids=tuple(map(str, range(USERS))),
        item_ids=tuple(map(str, range(items))),
    )
