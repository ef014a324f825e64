from __future__ import annotations

import numpy as np
import pytest

from anabranch.ranking import index as index_module
from anabranch.ranking.index import ItemIndex, Vectors


def _unit(n: int, dims: int = 8, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(n, dims)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _filled(n: int) -> ItemIndex:
    index = ItemIndex(8)
    index.upsert(np.arange(n, dtype=np.int32), _unit(n), np.ones(n, np.bool_))
    return index


def _rows(*rows: int) -> np.ndarray:
    return np.array(rows, np.int32)


def test_an_empty_index_finds_nothing() -> None:
    rows, scores = ItemIndex(8).search(_unit(2), 3)
    assert rows.shape == scores.shape == (2, 0)


@pytest.mark.parametrize("rebuilt", [False, True], ids=["from the delta", "from the base"])
def test_search_returns_the_greatest_inner_products_best_first(rebuilt: bool) -> None:
    index, query = _filled(500), _unit(3, seed=1)
    if rebuilt:
        index.rebuild()
    rows, scores = index.search(query, 10)
    exact = np.argsort(-(query @ _unit(500).T), axis=1)[:, :10]
    assert np.array_equal(rows, exact)
    np.testing.assert_allclose(scores, np.take_along_axis(query @ _unit(500).T, exact, axis=1), atol=1e-6)


def test_an_upsert_is_found_by_the_next_search_and_its_old_vector_no_longer() -> None:
    index = _filled(100)
    index.rebuild()
    old, new = _unit(100)[7:8], -_unit(100)[7:8]
    index.upsert(_rows(7), new, np.array([True]))
    assert index.search(new, 1)[0].tolist() == [[7]]
    assert 7 not in index.search(old, 50)[0]


def test_a_removed_item_is_never_returned() -> None:
    index = _filled(100)
    index.rebuild()
    index.remove(_rows(7))
    assert 7 not in index.search(_unit(100)[7:8], 100)[0]
    assert index.known(_rows(7)).tolist() == [False]
    index.rebuild()
    assert 7 not in index.search(_unit(100)[7:8], 100)[0]


def test_an_unavailable_item_is_known_but_not_found() -> None:
    index = _filled(100)
    index.upsert(_rows(7), _unit(100)[7:8], np.array([False]))
    assert index.known(_rows(7)).tolist() == [True]
    assert index.servable(_rows(7)).tolist() == [False]
    assert 7 not in index.search(_unit(100)[7:8], 100)[0]


def test_rows_beyond_the_index_are_unknown() -> None:
    assert _filled(10).known(_rows(-1, 3, 10_000_000)).tolist() == [False, True, False]


def test_a_rebuild_is_due_after_many_changes_and_answers_as_before() -> None:
    index = _filled(2_000)
    assert index.needs_rebuild
    before = index.search(_unit(5, seed=3), 20)[0]
    index.rebuild()
    assert not index.needs_rebuild
    assert np.array_equal(index.search(_unit(5, seed=3), 20)[0], before)


def test_recall_of_an_exact_base_is_one_and_an_inverted_file_reports_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    index = _filled(5_000)
    index.rebuild()
    assert index.recall(_unit(20, seed=4), 10) == 1.0
    monkeypatch.setattr(index_module, "EXACT_BELOW", 1_000)
    index.rebuild()
    assert 0.3 < index.recall(_unit(20, seed=4), 10) < 1.0
