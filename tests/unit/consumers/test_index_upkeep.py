"""What a ranker does for its index beside ranking: rebuilds, and a look at the recall."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from anabranch.metrics import RankerMetrics
from anabranch.ranking.index import ItemIndex, Rebuild
from anabranch.ranking.index_base import Base, Vectors
from consumers import recall
from consumers.rebuild import Rebuilds
from consumers.recall import RecallWatch

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
    monkeypatch.setattr(Rebuild, "base", lambda self: build(self) if may_end.wait(10) else None)
    rebuilds.go_on(index)
    rebuilds.go_on(index)
    index.remove(np.array([7], np.int32))
    assert 7 not in index.search(unit(DUE)[7:8], 10)[0]
    may_end.set()
    deadline = time.monotonic() + 10
    while index.unfolded > 1:
        assert time.monotonic() < deadline
        rebuilds.go_on(index)
        time.sleep(0.01)
    assert 7 not in index.search(unit(DUE)[7:8], 10)[0]


def test_a_rebuild_that_fails_ends_the_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Rebuild) -> Base:
        raise MemoryError("no room")

    monkeypatch.setattr(Rebuild, "base", fail)
    index, rebuilds = filled(), Rebuilds()
    with pytest.raises(MemoryError, match="no room"):
        for _ in range(1_000):
            rebuilds.go_on(index)
            time.sleep(0.01)


def test_the_recall_is_told_and_the_search_widened_where_it_stays_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    index, registry = filled(), CollectorRegistry()
    watch = RecallWatch(RankerMetrics(registry))
    widened: list[bool] = []
    monkeypatch.setattr(watch, "_due", lambda: True)
    monkeypatch.setattr(index, "recall", lambda users, k: 0.9)
    monkeypatch.setattr(index, "widen", lambda: widened.append(True))
    for _ in range(recall.SAMPLES - 1):
        watch.look(index, unit(3), np.arange(3))
    assert registry.get_sample_value("anabranch_index_recall") == 0.9
    assert not widened
    watch.look(index, unit(3), np.arange(3))
    assert widened
