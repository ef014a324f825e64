"""The features of a candidate, against hand-made vectors and histories."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from anabranch.ranking.pipeline.features import FEATURES, RECENCY_DECAY, build_features
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidate_columns import Candidates
from anabranch.ranking.retrieval.co_visit_table import FLOOR, CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.user_state.snapshot import UserSnapshots
from tests.support.layouts import LAYOUT

EAST, NORTH, NORTH_EAST, UNKNOWN = range(4)
VECTORS = np.array([[1, 0], [0, 1], [np.sqrt(0.5), np.sqrt(0.5)]], np.float32)


def feature(name: str, recent: list[int]) -> NDArray[np.float32]:
    """The feature [3] of the items with vectors, for a user with the history `recent`, newest first."""
    index = ItemIndex(2)
    index.upsert(np.arange(3, dtype=np.int32), VECTORS, np.ones(3, np.bool_))
    queries = UserSnapshots.empty(1, dims=2, layout=LAYOUT._replace(history=len(recent)))
    queries.vector[0], queries.recent[0] = [1, 0], recent
    three = Candidates.empty(3, queries=1)
    candidates = three._replace(query=np.zeros(3, np.int32), item=np.arange(3, dtype=np.int32))
    return build_features(queries, candidates, index, CoVisitRows(), Policy().first_classes)[:, FEATURES.index(name)]


def test_like_last_compares_with_the_newest_item_only() -> None:
    np.testing.assert_allclose(feature("like_last", [NORTH, EAST]), [0, 1, np.sqrt(0.5)], rtol=1e-6)


def test_like_recent_weights_newer_items_more() -> None:
    direction = np.array([RECENCY_DECAY, 1]) / np.hypot(RECENCY_DECAY, 1)
    np.testing.assert_allclose(feature("like_recent", [NORTH, EAST]), VECTORS @ direction, rtol=1e-6)


def test_recent_items_without_a_vector_are_skipped() -> None:
    np.testing.assert_allclose(feature("like_recent", [UNKNOWN, NORTH, -1]), [0, 1, np.sqrt(0.5)], atol=1e-6)


@pytest.mark.parametrize("recent", [[-1, -1], [UNKNOWN, -1]])
def test_like_recent_is_zero_for_a_history_without_vectors(recent: list[int]) -> None:
    assert not feature("like_recent", recent).any()


def test_a_feature_of_the_session_grows_with_what_the_session_says_of_the_candidate() -> None:
    index = ItemIndex(2)
    index.upsert(np.arange(3, dtype=np.int32), VECTORS, np.ones(3, np.bool_))
    queries = UserSnapshots.empty(1, dims=2, layout=LAYOUT)
    candidates = Candidates.empty(3, queries=1)._replace(
        query=np.zeros(3, np.int32),
        item=np.arange(3, dtype=np.int32),
        co_visit_session=np.array([0, 0.1, 0.2], np.float32),
        session_category=np.array([0, 1, 3], np.int32),
    )
    features = build_features(queries, candidates, index, CoVisitRows(), Policy().first_classes)
    np.testing.assert_allclose(features[:, FEATURES.index("session_category")], np.log1p([0, 1, 3]), rtol=1e-6)
    np.testing.assert_allclose(
        features[:, FEATURES.index("co_visit_session")], np.log(np.array([0, 0.1, 0.2]) + FLOOR), rtol=1e-6
    )
