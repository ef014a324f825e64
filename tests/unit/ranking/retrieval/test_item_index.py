from __future__ import annotations

import numpy as np
import pytest

from anabranch.messages import Item
from anabranch.ranking.retrieval import ann_index
from anabranch.ranking.retrieval import item_index as index_module
from anabranch.ranking.retrieval.ann_index import AnnIndex
from anabranch.ranking.retrieval.item_attributes import NO_NAME, ItemAttributes, category_hashes, name_hashes
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Vectors


def _unit(n: int, dims: int = 8, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(n, dims)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _filled(n: int) -> ItemIndex:
    index = ItemIndex(8)
    index.upsert(np.arange(n, dtype=np.int32), _unit(n), np.ones(n, np.bool_))
    return index


def _rows(*rows: int) -> np.ndarray:
    return np.array(rows, np.int32)


def test_an_empty_index_returns_no_items() -> None:
    rows, scores = ItemIndex(8).search(_unit(2), 3)
    assert (rows == -1).all()
    assert np.isneginf(scores).all()


@pytest.mark.parametrize("rebuilt", [False, True], ids=["from the delta", "from the base"])
def test_search_returns_the_greatest_inner_products_best_first(rebuilt: bool) -> None:
    index, query = _filled(500), _unit(3, seed=1)
    if rebuilt:
        index.rebuild()
    rows, scores = index.search(query, 10)
    exact = np.argsort(-(query @ _unit(500).T), axis=1)[:, :10]
    assert np.array_equal(rows, exact)
    np.testing.assert_allclose(scores, np.take_along_axis(query @ _unit(500).T, exact, axis=1), atol=1e-6)


def test_changed_items_are_merged_into_the_results_of_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "DELTA_CHUNK", 100)
    index, query = _filled(1_000), _unit(30, seed=1)
    index.rebuild()
    changed = np.arange(0, 1_000, 2, dtype=np.int32)
    index.upsert(changed, _unit(500, seed=2), changed % 4 == 0)
    products = query @ index.columns.vectors[:1_000].T
    products[:, ~index.columns.servable[:1_000]] = -np.inf
    exact = np.argsort(-products, axis=1)[:, :100]
    rows, scores = index.search(query, 100)
    assert np.array_equal(rows, exact)
    np.testing.assert_allclose(scores, np.take_along_axis(products, exact, axis=1), atol=1e-6)


def test_a_search_after_an_upsert_uses_the_new_vector_only() -> None:
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


def test_an_unavailable_item_has_a_vector_but_is_never_returned() -> None:
    index = _filled(100)
    index.upsert(_rows(7), _unit(100)[7:8], np.array([False]))
    assert index.known(_rows(7)).tolist() == [True]
    assert index.columns.servable[_rows(7)].tolist() == [False]
    assert 7 not in index.search(_unit(100)[7:8], 100)[0]


def test_rows_beyond_the_index_have_no_vector() -> None:
    assert _filled(10).known(_rows(-1, 3, 10_000_000)).tolist() == [False, True, False]


def test_a_rebuild_is_needed_after_many_changes_and_leaves_results_unchanged() -> None:
    index = _filled(2_000)
    assert index.needs_rebuild
    before = index.search(_unit(5, seed=3), 20)[0]
    index.rebuild()
    assert not index.needs_rebuild
    assert np.array_equal(index.search(_unit(5, seed=3), 20)[0], before)


def test_tombstones_do_not_reduce_the_number_of_results() -> None:
    index, query = _filled(2_000), _unit(1, seed=5)
    index.rebuild()
    nearest = index.search(query, 300)[0][0]
    index.remove(nearest[:250])
    assert np.array_equal(index.search(query, 50)[0][0], nearest[250:])


def test_results_are_padded_if_the_index_has_fewer_than_k_items() -> None:
    index = _filled(5)
    index.rebuild()
    index.remove(_rows(0))
    rows, scores = index.search(_unit(2, seed=1), 8)
    assert (np.sort(rows, axis=1) == [-1, -1, -1, -1, 1, 2, 3, 4]).all()
    assert np.array_equal(np.isneginf(scores), rows < 0)


def test_items_changed_during_a_rebuild_are_found_by_their_newest_vectors() -> None:
    index = _filled(100)
    index.rebuild()
    old, new = _unit(100)[7:8], -_unit(100)[7:8]
    rebuild = index.start_rebuild()
    index.upsert(_rows(7, 100), np.concatenate([new, old]), np.ones(2, np.bool_))
    index.remove(_rows(8))
    index.swap_base(rebuild.build())
    assert index.search(new, 1)[0].tolist() == [[7]]
    assert index.search(old, 1)[0].tolist() == [[100]]
    assert 8 not in index.search(_unit(100)[8:9], 100)[0]
    index.rebuild()
    assert index.search(new, 1)[0].tolist() == [[7]]
    assert 8 not in index.search(_unit(100)[8:9], 100)[0]


def test_at_most_one_rebuild_is_in_progress() -> None:
    index = _filled(2_000)
    rebuild = index.start_rebuild()
    assert not index.needs_rebuild
    index.swap_base(rebuild.build())
    with pytest.raises(ValueError, match="no rebuild has started"):
        index.swap_base(rebuild.build())


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> ItemIndex:
    """An index of 5,000 items whose base is an HNSW graph."""
    monkeypatch.setattr(ann_index, "FLAT_INDEX_MAX_ITEMS", 1_000)
    monkeypatch.setattr(ann_index, "SCANS_PER_EF_SEARCH", 1)
    index = _filled(5_000)
    index.rebuild()
    return index


def test_a_flat_base_has_a_recall_of_1() -> None:
    index = _filled(5_000)
    index.rebuild()
    assert index.base.recall(_unit(20, seed=4)) == 1.0
    assert index.base.ef_search == 0


def test_the_measured_recall_is_that_of_searches(graph: ItemIndex) -> None:
    queries = _unit(200, seed=4)
    share = graph.base.recall(queries)
    assert share > 0.95
    exact = -np.sort(-(queries @ graph.columns.vectors[:5_000].T), axis=1)[:, : ann_index.RECALL_K]
    assert ann_index.recall_of_scores(exact, graph.search(queries, ann_index.RECALL_K)[1]) == pytest.approx(share)


def test_tune_sets_the_smallest_ef_search_that_reaches_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "FLAT_INDEX_MAX_ITEMS": 1_000,
        "M": 8,
        "EF_CONSTRUCTION": 16,
        "SCANS_PER_EF_SEARCH": 1,
        "MAX_EF_SEARCH": 2_000,
    }
    for name, value in small.items():
        monkeypatch.setattr(ann_index, name, value)
    vectors = np.random.default_rng(5).normal(size=(5_200, 32)).astype(np.float32)
    base, users = AnnIndex.build(vectors, np.arange(5_000, dtype=np.int32)), vectors[5_000:]
    base.faiss_index.hnsw.efSearch = ann_index.RECALL_K
    before = base.recall(users)
    base.tune(users)
    assert before < ann_index.RECALL_TARGET <= base.recall(users)
    base.faiss_index.hnsw.efSearch = base.ef_search - 1
    assert base.recall(users) < ann_index.RECALL_TARGET, "the smallest"


def test_a_graph_is_extended_until_too_much_of_it_is_deleted(graph: ItemIndex) -> None:
    graph.base.faiss_index.hnsw.efSearch = 333
    first, moved = graph.base, np.arange(1_000, dtype=np.int32)
    for seed in (6, 7):
        graph.upsert(moved, _unit(1_000, seed=seed), np.ones(1_000, np.bool_))
        graph.remove(np.array([4_000 + seed], np.int32))
        graph.rebuild()
        assert graph.base.ef_search == 333, "still tuned"
        nearest = graph.search(graph.columns.vectors[:50], 3)[0]
        assert nearest[:, 0].tolist() == list(range(50))
        assert 4_000 + seed not in graph.search(_unit(5_000, seed=3)[4_000 + seed : 4_001 + seed], 10)[0]
        if seed == 6:
            assert len(graph.base) == 6_000, "with the deleted vectors"
    assert len(graph.base) == 4_998, "built from scratch"
    assert len(first) == 5_000, "a base never changes"


def test_ef_search_has_an_upper_bound(graph: ItemIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann_index, "RECALL_TARGET", 1.1)
    assert graph.base.tune(_unit(20, seed=4)) < 1.1
    assert graph.base.ef_search == ann_index.MAX_EF_SEARCH


def test_a_scan_replaces_an_hnsw_search_that_would_be_no_faster(
    graph: ItemIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ann_index, "SCANS_PER_EF_SEARCH", 20)  # a scan of 5,000 takes as long as efSearch 250
    monkeypatch.setattr(ann_index, "RECALL_TARGET", 1.1)
    queries = _unit(20, seed=4)
    assert graph.base.tune(queries) == graph.base.recall(queries) == 1.0
    assert graph.base.ef_search == 0
    exact = np.argsort(-(queries @ _unit(5_000).T), axis=1)[:, :100]
    assert np.array_equal(graph.search(queries, 100)[0], exact)


def test_items_with_equal_vectors_are_all_found_and_change_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a graph that held every copy, the copies would link to each other only and be unreachable."""
    monkeypatch.setattr(ann_index, "FLAT_INDEX_MAX_ITEMS", 1_000)
    monkeypatch.setattr(ann_index, "SCANS_PER_EF_SEARCH", 1)
    vectors, n = np.repeat(_unit(50), 200, axis=0), 10_000
    index = ItemIndex(8)
    index.upsert(np.arange(n, dtype=np.int32), vectors, np.ones(n, np.bool_))
    index.rebuild()
    assert index.base.faiss_index.ntotal == 50
    rows, scores = index.search(vectors[::200], 150)
    assert (rows // 200 == np.arange(50)[:, None]).all()
    assert all(len(set(row)) == 150 for row in rows.tolist())
    np.testing.assert_allclose(scores, 1, atol=1e-6)

    removed, moved = np.arange(180, dtype=np.int32), _rows(199)
    index.remove(removed)
    index.upsert(moved, -vectors[:1], np.array([True]))
    for _ in range(2):
        assert set(index.search(vectors[:1], 19)[0][0].tolist()) == set(range(180, 199))
        assert index.search(-vectors[:1], 1)[0].tolist() == [[199]]
        index.rebuild()


def test_deleted_entries_of_the_graph_do_not_reduce_the_number_of_results(graph: ItemIndex) -> None:
    graph.upsert(np.arange(1_000, dtype=np.int32), _unit(1_000, seed=6), np.ones(1_000, np.bool_))
    graph.rebuild()
    rows = graph.search(_unit(5_000, seed=3)[:300], 100)[0]  # near the deleted vectors of some items
    assert (rows >= 0).all()
    assert all(len(set(row)) == 100 for row in rows.tolist())


def test_recall_counts_items_of_equal_score_as_found() -> None:
    assert ann_index.recall_of_scores(np.array([[2.0, 1.0, 1.0]]), np.array([[2.0, 1.0, 1.0]])) == 1.0
    assert ann_index.recall_of_scores(np.array([[2.0, 1.0, 1.0]]), np.array([[2.0, 1.0, 0.5]])) == pytest.approx(2 / 3)


def test_an_item_that_changes_during_a_rebuild_does_not_change_one_of_equal_vector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two items have equal vectors, and one of them changes before the vector of the other is read."""
    monkeypatch.setattr(ann_index, "FLAT_INDEX_MAX_ITEMS", 3)
    monkeypatch.setattr(ann_index, "ADD_CHUNK", 1)
    monkeypatch.setattr(ann_index, "SCANS_PER_EF_SEARCH", 1)
    index, (other, alike, new) = ItemIndex(8), _unit(3)
    index.upsert(_rows(0, 1, 2), np.stack([other, alike, alike]), np.ones(3, np.bool_))
    rebuild = index.start_rebuild()
    index.swap_base(rebuild.build(lambda: index.upsert(_rows(1), new[None], np.array([True]))))
    for query, item in ((other, 0), (new, 1), (alike, 2)):
        rows, scores = index.search(query[None], 1)
        assert (rows[0, 0], scores[0, 0]) == (item, pytest.approx(1))


@pytest.mark.parametrize("rebuilt", [True, False], ids=["base", "delta"])
def test_of_items_with_equal_vectors_the_same_ones_are_found_in_whatever_order_they_arrived(rebuilt: bool) -> None:
    """Else two rankers, or one before and after a restart, would propose different items of one title."""
    vectors, hashes = np.repeat(_unit(3), 50, axis=0), np.random.default_rng(1).permutation(150).astype(np.uint64)
    found = []
    for seed in range(3):
        arrival = np.random.default_rng(seed).permutation(150)
        index = ItemIndex(vectors.shape[1])
        index.upsert(np.arange(150, dtype=np.int32), vectors[arrival], np.ones(150, np.bool_), hashes[arrival])
        if rebuilt:
            index.rebuild()
        rows, _ = index.search(_unit(40, seed=5), 60)
        found.append(np.sort(hashes[arrival][rows], axis=1))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_an_index_keeps_the_attributes_of_its_items_as_it_grows() -> None:
    index, vector, available = ItemIndex(2), np.ones((1, 2), np.float32), np.ones(1, np.bool_)
    soup = Item(item_id="i", title="", category=["GROCERY", "SOUP"], brand="Ladle", domain="shop", price=2.5)
    index.upsert(_rows(3), vector, available, attributes=ItemAttributes.of([soup]))
    index.upsert(_rows(5_000), vector, available)
    kept = index.attributes(_rows(3, 5_000))
    assert kept.categories.tolist() == [category_hashes([soup.category])[0], NO_NAME]
    assert kept.brands.tolist() == [*name_hashes(["Ladle"]), NO_NAME]
    assert kept.domains.tolist() == [*name_hashes(["shop"]), NO_NAME]
    np.testing.assert_array_equal(kept.prices, np.array([2.5, np.nan], np.float32))
    assert kept.category_paths == {int(kept.categories[0]): ("GROCERY", "SOUP")}


def test_an_item_without_attributes_any_more_has_none() -> None:
    index, vector, available = ItemIndex(2), np.ones((1, 2), np.float32), np.ones(1, np.bool_)
    index.upsert(_rows(3), vector, available, attributes=ItemAttributes.of([Item(item_id="i", title="", brand="b")]))
    index.upsert(_rows(3), vector, available, attributes=ItemAttributes.of([Item(item_id="i", title="")]))
    assert index.attributes(_rows(3)).brands.tolist() == [NO_NAME]


def test_categories_are_told_by_their_whole_path() -> None:
    paths = [["GROCERY", "SOUP"], ["SOUP"], ["GROCERY SOUP"], ["GROCERY", "SOUP"], []]
    first, *others, same, none = category_hashes(paths).tolist()
    assert first == same not in others
    assert none == NO_NAME
