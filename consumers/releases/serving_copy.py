"""What rankers serve with, read once: for a look at rankings beside the stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Self

from kafka import KafkaConsumer
from prometheus_client import CollectorRegistry

from anabranch.errors import UsageError
from anabranch.kafka import clients
from anabranch.metrics import ServingMetrics
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.rules.rule_book import RuleBook
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.settings import Settings
from consumers.releases.release_watcher import ReleaseWatcher
from consumers.releases.updates import CoVisitUpdate, ItemVectorUpdate, RuleUpdate, SwapRelease, Update

PATIENCE_S = 10.0
"""How long to wait for a release whose vectors the indexer has yet to publish, once all topics are read."""


@dataclass(frozen=True)
class ServingCopy:
    """The live release with its index, the co-visits and the rules, as they were at one moment."""

    live: ServableRelease
    co_visits: CoVisitRows
    rules: RuleBook
    item_ids: ItemVocabulary

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Read the topics that a ranker follows. Raises `UsageError` if no release is ready to serve."""
        item_ids, metrics = ItemVocabulary(), ServingMetrics(CollectorRegistry())
        watcher = ReleaseWatcher(settings, item_ids, metrics, partial(clients.follower, settings))
        with closing(watcher.connect()) as consumer:
            updates = list(_updates(watcher, consumer))
        [live, *_] = [update.live for update in updates if isinstance(update, SwapRelease)]
        copy = cls(live, CoVisitRows(settings.neighbours), RuleBook(), item_ids)
        for update in updates:
            copy._apply(update)
        return copy

    def _apply(self, update: Update) -> None:
        if isinstance(update, CoVisitUpdate):
            update.apply(self.co_visits)
        elif isinstance(update, RuleUpdate):
            update.apply(self.rules)
        elif isinstance(update, ItemVectorUpdate) and update.release == self.live.manifest.id:
            update.apply(self.live.index)


def _updates(watcher: ReleaseWatcher, consumer: KafkaConsumer) -> Iterator[Update]:
    """Until the first release is live, and what comes with it. Raises `UsageError` if none is ready."""
    ends = consumer.end_offsets(list(consumer.assignment()))
    deadline: float | None = None
    is_live = False
    while not is_live:
        watcher.poll(consumer)
        for update in watcher.take_updates():
            is_live = is_live or isinstance(update, SwapRelease)
            yield update
        if deadline is None and clients.reached(consumer, ends):
            deadline = time.monotonic() + PATIENCE_S
        if not is_live and deadline is not None and time.monotonic() > deadline:
            raise UsageError(f"there is nothing to rank with: waiting for {watcher.waiting_for}")
