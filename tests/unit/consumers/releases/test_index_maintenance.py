"""Background work on the index: rebuilds, and the tuning of its recall."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from anabranch.metrics import RankerMetrics
from anabranch.ranking.retrieval import ann_index, query_sample
from anabranch.ranking.retrieval.ann_index import AnnIndex
from anabranch.ranking.retrieval.item_index import ItemIndex, Rebuild
from anabranch.ranking.types import Vectors, YieldCpu
from consumers.releases import index_maintenance
from consumers.releases.index_maintenance import IndexRebuilder, RecallMonitor
from tests.support.in_memory_kafka import ManualClock

DUE = 2_000


def unit(n: int) -> Vectors:
    vectors = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def index_to_rebuild() -> ItemIndex:
    """An index that needs a rebuild."""
    index = ItemIndex(8)
    index.upsert(np.arange(DUE, dtype=np.int32), unit(DUE), np.ones(DUE, np.bool_))
    return index


def test_an_index_is_rebuilt_in_the_background_while_it_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    index, rebuilder, may_end = index_to_rebuild(), IndexRebuilder(), threading.Event()
    build = Rebuild.build
    monkeypatch.setattr(Rebuild, "build", lambda self, yield_cpu: build(self, yield_cpu) if may_end.wait(10) else None)
    rebuilder.poll(index)
    rebuilder.poll(index)
    index.remove(np.array([7], np.int32))
    assert 7 not in index.search(unit(DUE)[7:8], 10)[0]
    may_end.set()
    deadline = time.monotonic() + 10
    while index.pending_changes > 1:
        assert time.monotonic() < deadline
        rebuilder.poll(index)
        time.sleep(0.01)
    assert 7 not in index.search(unit(DUE)[7:8], 10)[0]


def test_a_rebuild_that_fails_ends_the_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Rebuild, yield_cpu: YieldCpu) -> AnnIndex:
        raise MemoryError("no room")

    monkeypatch.setattr(Rebuild, "build", fail)
    index, rebuilder = index_to_rebuild(), IndexRebuilder()
    with pytest.raises(MemoryError, match="no room"):
        for _ in range(1_000):
            rebuilder.poll(index)
            time.sleep(0.01)


def test_the_index_is_tuned_to_the_users_it_serves_and_its_recall_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann_index, "FLAT_INDEX_MAX_ITEMS", 1_000)
    monkeypatch.setattr(ann_index, "SCANS_PER_EF_SEARCH", 1)
    index, registry = index_to_rebuild(), CollectorRegistry()
    index.rebuild()
    index.base.faiss_index.hnsw.efSearch = 1
    monitor = RecallMonitor(RankerMetrics(registry))
    users = unit(query_sample.SAMPLE_SIZE).astype(np.float16)
    due = iter([False, False, True])
    monkeypatch.setattr(monitor, "_due", lambda: next(due))
    for slots in np.array_split(np.arange(len(users)), 3):
        monitor.observe(index.base, users, slots)
    assert monitor._search is not None
    monitor._search.result(30)
    assert index.base.ef_search > 1
    recall = registry.get_sample_value("anabranch_index_recall")
    assert recall == index.base.recall(users.astype(np.float32)) >= ann_index.RECALL_TARGET


def test_a_user_ranked_in_every_batch_stays_in_the_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ann_index, "FLAT_INDEX_MAX_ITEMS", 1_000)
    monkeypatch.setattr(ann_index, "SCANS_PER_EF_SEARCH", 1)
    index, tuned_to = index_to_rebuild(), list[Vectors]()
    index.rebuild()

    def tune(base: AnnIndex, queries: Vectors, yield_cpu: YieldCpu) -> float:
        tuned_to.append(queries)
        return 1.0

    monkeypatch.setattr(AnnIndex, "tune", tune)
    monitor = RecallMonitor(RankerMetrics(CollectorRegistry()))
    monkeypatch.setattr(monitor, "_due", lambda: False)
    users = unit(query_sample.SAMPLE_SIZE).astype(np.float16)
    for slot in range(len(users)):
        monitor.observe(index.base, users, np.unique([0, slot]))
    assert monitor._search is not None
    monitor._search.result(30)
    assert len(np.unique(tuned_to[0], axis=0)) == query_sample.SAMPLE_SIZE


def test_a_recall_is_reported_for_a_while_and_for_the_index_that_it_was_measured_on() -> None:
    """A ranker without events measures nothing, and reports nothing."""
    index, clock, registry = index_to_rebuild(), ManualClock(), CollectorRegistry()
    index.rebuild()
    monitor = RecallMonitor(RankerMetrics(registry), lambda: clock.seconds)

    def reported() -> tuple[float | None, float | None]:
        value = registry.get_sample_value
        return value("anabranch_index_recall"), value("anabranch_index_recall_users")

    def measure() -> None:
        clock.advance(index_maintenance.RECALL_INTERVAL_S)
        monitor.observe(index.base, unit(3).astype(np.float16), np.arange(3))
        assert monitor._search is not None
        monitor._search.result(30)

    assert reported() == (pytest.approx(math.nan, nan_ok=True), 0)
    measure()
    assert reported() == (1, 3)
    clock.advance(index_maintenance.RECALL_VALID_S + 1)
    assert reported() == (pytest.approx(math.nan, nan_ok=True), 0)
    measure()
    assert reported() == (1, 3)
    index.rebuild()
    monitor.observe(index.base, unit(3).astype(np.float16), np.arange(3))  # nothing is due yet
    assert reported() == (pytest.approx(math.nan, nan_ok=True), 0)
