"""Purchase probabilities: output only if the policy requests them and the release has a purchase head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anabranch import release
from anabranch.messages import Event
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline import rank, user_update
from anabranch.ranking.pipeline.features import build_features
from anabranch.ranking.pipeline.rank import RankingResult
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidates import propose
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import PURCHASE_HEAD, ReleaseError, ReleasePolicy
from anabranch.settings import Settings
from tests.support.layouts import LAYOUT
from tests.support.releases import DIMS, live_release, write_release

CATALOGUE = [f"item {n}" for n in range(50)]
WITH_PURCHASE = Policy(purchase=True)
EVENTS = [
    Event(event_id=f"e{n}", user_id=f"u{n % 3}", type="view", ts=1_000 * n, item_id=f"item {n}") for n in range(9)
]


class Shop:
    """A release with or without the head, and nine views by three users."""

    def __init__(self, folder: Path, head: bool = True, catalogue: Sequence[str] = CATALOGUE) -> None:
        write_release(folder / "r1", item_ids=CATALOGUE, purchase=head)
        self.item_ids = ItemVocabulary()
        self.live = live_release(folder / "r1", self.item_ids, catalogue)
        self.neighbours = CoVisitRows()

    def rank(self, policy: Policy) -> RankingResult:
        states = self.states()
        return rank.rank(self.live, self.neighbours, states, self.batch(states), policy)

    def states(self) -> UserStates:
        return UserStates(LAYOUT._replace(history=8, long_term_items=4, slate=5), DIMS, DIMS)

    def batch(self, states: UserStates) -> EventBatch:
        return EventBatch.from_events(EVENTS, states.slots(event.user_id for event in EVENTS), self.item_ids)


def test_each_item_of_a_slate_has_the_probability_that_the_head_predicts(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    ranked = shop.rank(WITH_PURCHASE)
    assert shop.live.purchase is not None
    assert ranked.purchase is not None
    assert ((ranked.purchase > 0) & (ranked.purchase < 1)).all()

    states = shop.states()
    queries = user_update.update_user_states(shop.live, states, shop.batch(states)).snapshots
    candidates = propose(queries, shop.live.index, shop.neighbours, WITH_PURCHASE, states.layout.half_life_s)
    features = build_features(queries, candidates, shop.live.index, shop.neighbours, WITH_PURCHASE.first_classes)
    probability = shop.live.purchase.probability(features[None])[0].tolist()
    said = dict(zip(zip(candidates.query.tolist(), candidates.item.tolist(), strict=True), probability, strict=True))
    expected = [[said[at, item] for item in slate] for at, slate in enumerate(ranked.slate.tolist())]
    np.testing.assert_allclose(ranked.purchase, expected, rtol=1e-5)


def test_a_policy_without_purchase_has_the_same_slates_and_no_probabilities(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with_purchase, without = (shop.rank(policy) for policy in (WITH_PURCHASE, Policy()))
    assert without.purchase is None
    assert np.array_equal(with_purchase.slate, without.slate)
    assert np.array_equal(with_purchase.score, without.score)


def test_a_release_without_the_head_has_no_probabilities(tmp_path: Path) -> None:
    ranked = Shop(tmp_path, head=False).rank(WITH_PURCHASE)
    assert ranked.purchase is None
    assert (ranked.slate >= 0).all()


def test_an_empty_position_of_a_slate_has_a_probability_of_zero(tmp_path: Path) -> None:
    ranked = Shop(tmp_path, catalogue=["item 40", "item 41"]).rank(WITH_PURCHASE)
    assert ranked.purchase is not None
    assert (ranked.slate[:, 2:] == -1).all()
    assert (ranked.purchase[:, :2] > 0).all()
    assert (ranked.purchase[:, 2:] == 0).all()


def test_empty_slates_have_probabilities_of_zero(tmp_path: Path) -> None:
    ranked = Shop(tmp_path, catalogue=[]).rank(WITH_PURCHASE)
    assert ranked.purchase is not None
    assert not ranked.purchase.any()


def test_the_setting_publish_purchase_sets_the_policy() -> None:
    assert not Policy.from_settings(Settings(), ReleasePolicy()).purchase
    assert Policy.from_settings(Settings(publish_purchase=True), ReleasePolicy()).purchase


def test_a_modified_head_is_rejected(tmp_path: Path) -> None:
    manifest = write_release(tmp_path / "r1", purchase=True)
    path = tmp_path / "r1" / PURCHASE_HEAD
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ReleaseError, match=r"purchase\.onnx does not match its sha256"):
        ServableRelease.load(release.open_release(tmp_path / "r1"), manifest)


def test_a_head_that_the_manifest_does_not_list_is_ignored(tmp_path: Path) -> None:
    manifest = write_release(tmp_path / "r1", purchase=True)
    files = {name: sha256 for name, sha256 in manifest.files.items() if name != PURCHASE_HEAD}
    release.write(tmp_path / "r1", msgspec.structs.replace(manifest, files=files))
    files = release.open_release(tmp_path / "r1")
    assert ServableRelease.load(files, files.manifest).purchase is None


def test_a_manifest_without_purchase_fields_is_read(tmp_path: Path) -> None:
    write_release(tmp_path / "r1")
    path = tmp_path / "r1" / release.MANIFEST
    written = msgspec.json.decode(path.read_bytes())
    del written["heads"]
    path.write_bytes(msgspec.json.encode(written))
    assert release.open_release(tmp_path / "r1").manifest.heads == {}
