"""The gauges of a process that has user states in memory and an item index."""

from __future__ import annotations

import logging
from collections.abc import Callable

from anabranch.metrics import ServingMetrics
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.throttle import Throttle
from consumers.user_states.state_store import StateStore

COLLISION_LOG_INTERVAL_S = 10
log = logging.getLogger(__name__)


class StateGauges:
    """Sets them; the caller says when, for some are costly to read."""

    def __init__(self, metrics: ServingMetrics, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._collision_log_due = Throttle(COLLISION_LOG_INTERVAL_S, monotonic)

    def show(self, store: StateStore, live: ServableRelease | None) -> None:
        """Set the gauges, and count the item ids that collided."""
        users, collisions = store.users, store.items.take_collisions()
        self._metrics.item_id_collisions.inc(len(collisions))
        if collisions and self._collision_log_due():
            log.warning("%s", collisions[-1])
        self._metrics.unnamed_items.set(store.items.unnamed)
        self._metrics.users.set(len(users))
        self._metrics.away.set(users.evicted)
        self._metrics.state_bytes.set(users.nbytes)
        self._metrics.index_items.set(0 if live is None else len(live.index))
        self._metrics.index_unfolded.set(0 if live is None else live.index.pending_changes)
