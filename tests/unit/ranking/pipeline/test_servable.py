from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anabranch import release
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.ranking.pipeline.servable import require_servable
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import ReleaseError
from tests.support.releases import live_release, make_unservable, write_release

EARLIER = ("repeat_rate", "inner_product", "popularity")
"""The features of a release of an earlier version, in another order."""


def test_a_release_of_an_earlier_version_reads_its_own_features_among_those_that_are_built(tmp_path: Path) -> None:
    write_release(tmp_path / "r1", purchase=True, features=EARLIER)
    live = live_release(tmp_path / "r1", ItemVocabulary(), ["a"])
    assert live.purchase is not None
    features = np.random.default_rng(0).normal(size=(5, len(FEATURES))).astype(np.float32)
    repeat_rate, inner_product, popularity = (features[:, FEATURES.index(name)] for name in EARLIER)
    np.testing.assert_allclose(
        live.order.score(features), 0.5 * repeat_rate + inner_product + 0.01 * popularity, rtol=1e-5
    )
    probability = 1 / (1 + np.exp(-(2 * inner_product + 0.1 * popularity)))
    np.testing.assert_allclose(live.purchase.probability(features[None])[0], probability, rtol=1e-5)


def test_a_release_that_reads_a_feature_that_is_not_built_is_refused_by_its_name(tmp_path: Path) -> None:
    write_release(tmp_path / "r1")
    make_unservable(tmp_path / "r1")
    with pytest.raises(ReleaseError, match="release r1 ranks by the features moon phase"):
        require_servable(release.open_release(tmp_path / "r1").manifest)
