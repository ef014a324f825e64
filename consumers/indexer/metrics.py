"""Metrics of an indexer."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from anabranch.metrics import STAGE_S, ConsumerMetrics, MetricFactory

INDEXER_STAGES = ("text", "item")


class IndexerMetrics(ConsumerMetrics):
    """Metrics of an indexer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        new = MetricFactory(registry)
        self.items = new.gauge("anabranch_catalogue_items", "Items in the catalogue")
        self.vectors = new.counter("anabranch_item_vectors", "Item vectors published")
        self.removed = new.counter("anabranch_item_vectors_removed", "Item vectors removed")
        self.backlog = new.gauge("anabranch_items_waiting", "Items that wait for a vector")
        self.stage = new.histogram(
            "anabranch_stage_seconds",
            f"Time of a chunk of items in a stage: {', '.join(INDEXER_STAGES)}",
            STAGE_S,
            "stage",
        )
        for stage in INDEXER_STAGES:
            self.stage.labels(stage)
        self.live_release = new.info("anabranch_live_release", "The release whose item vectors are published")
