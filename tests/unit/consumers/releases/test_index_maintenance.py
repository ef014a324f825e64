"""What a ranker does for its index beside ranking: rebuilds, and a look at the recall."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from anabranch.metrics import RankerMetrics
from anabranch.ranking.retrieval import ann_index
from anabranch.ranking.retrieval.ann_index import AnnIndex
from anabranch.ranking.retrieval.item_index import ItemIndex, Rebuild
from anabranch.ranking.types import Vectors, YieldCpu
from consumers.releases import index_recall
from consumers.releases.index_rebuild import Rebuilds
from consumers.releases.index_recall import RecallWatch

DUE = 2_000


def unit(n: int) -> Vectors:
    vectors = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def filled() -> ItemIndex:
    """Due for a rebuild."""
    index = ItemIndex(8)
    index.upsert(np.arange(DUE, dtype=np.int32), unit(DUE), np.ones(DUE, np.bool_))
    return index


def test_an_index_is_rebuilt_beside_the_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    index, rebuilds, may_end = filled(), Rebuilds(), threading.Event()
    build = Rebuild.base
    monkeypatch.setattr(Rebuild, "base", lambda self, between: build(self, between) if may_end.wait(10) else None)
    rebuilds.go_on(index)
    rebuilds.go_on(index)
    index.remove(np.array([7], np.int32))
    assert 7 not in index.search(unit(DUE)[7:8], 10)[0]
    may_end.set()
    deadline = time.monotonic() + 10
    while index.pending_changes > 1:
        assert time.monotonic() < deadline
        rebuilds.go_on(index)
        time.sleep(0.01)
    assert 7 not in index.search(unit(DUE)[7:8], 10)[0]


def test_a_rebuild_that_fails_ends_the_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Rebuild, between: YieldCpu) -> AnnIndex:
        raise MemoryError("no room")

    monkeypatch.setattr(Rebuild, "base", fail)
    index, rebuilds = filled(), Rebuilds()
    with pytest.raises(MemoryError, match="no room"):
        for _ in range(1_000):
            rebuilds.go_on(index)
            time.sleep(0.01)


def test_the_index_is_tuned_to_the_users_it_serves_and_their_recall_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann_index, "FLAT_INDEX_MAX_ITEMS", 1_000)
    monkeypatch.setattr(ann_index, "SCANNED", 1)
    index, registry = filled(), CollectorRegistry()
    index.rebuild()
    index.base.faiss_index.hnsw.efSearch = 1
    watch = RecallWatch(RankerMetrics(registry))
    users = unit(index_recall.SAMPLE).astype(np.float16)
    due = iter([False, False, True])
    monkeypatch.setattr(watch, "_due", lambda: next(due))
    for slots in np.array_split(np.arange(len(users)), 3):
        watch.look(index.base, users, slots)
    assert watch._under_way is not None
    watch._under_way.result(30)
    assert index.base.ef_search > 1
    told = registry.get_sample_value("anabranch_index_recall")
    assert told == index.base.recall(users.astype(np.float32)) >= ann_index.RECALL_TARGET


def test_a_user_who_comes_again_and_again_is_one_of_those_the_index_is_tuned_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ann_index, "FLAT_INDEX_MAX_ITEMS", 1_000)
    monkeypatch.setattr(ann_index, "SCANNED", 1)
    index, tuned_to = filled(), list[Vectors]()
    index.rebuild()

    def tune(base: AnnIndex, queries: Vectors, between: YieldCpu) -> float:
        tuned_to.append(queries)
        return 1.0

    monkeypatch.setattr(AnnIndex, "tune", tune)
    watch = RecallWatch(RankerMetrics(CollectorRegistry()))
    monkeypatch.setattr(watch, "_due", lambda: False)
    users = unit(index_recall.SAMPLE).astype(np.float16)
    for slot in range(len(users)):
        watch.look(index.base, users, np.unique([0, slot]))
    assert watch._under_way is not None
    watch._under_way.result(30)
    assert len(np.unique(tuned_to[0], axis=0)) == index_recall.SAMPLE
