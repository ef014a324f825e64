"""A live release: its encoder, list ranker, optional heads and item index, which are swapped together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anabranch.ranking.inference.item_encoder import OnnxItemEncoder, TextEncoder
from anabranch.ranking.inference.list_ranker import CandidateScorer, OnnxListRanker
from anabranch.ranking.inference.purchase_head import OnnxPurchaseHead
from anabranch.ranking.inference.user_encoder import OnnxRecurrentEncoder, OnnxStepEncoder, UserEncoder
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Positions, Vectors
from anabranch.release import GATES, PURCHASE_HEAD, ArtifactReader, Manifest, ReleaseError


def require_servable(manifest: Manifest) -> None:
    """Raise `ReleaseError` unless this version of Anabranch builds the features by which the release ranks.

    It may build more: a release of an earlier version serves on after an upgrade.
    """
    unknown = [name for name in manifest.features if name not in FEATURES]
    if unknown or not manifest.features:
        raise ReleaseError(
            f"release {manifest.id} ranks by the features {', '.join(unknown) or 'of no name'}, which this version "
            f"does not build; it builds {', '.join(FEATURES)}: run `anabranch reshare` of this version, or rank with "
            "the version of the release"
        )


def feature_columns(manifest: Manifest) -> Positions | None:
    """Which of the features that are built the release reads, in its order; None: all, in this version's order."""
    names = tuple(manifest.features)
    return None if names == FEATURES else np.array([FEATURES.index(name) for name in names], np.int64)


def _require_features(manifest: Manifest, *models: OnnxListRanker | OnnxPurchaseHead | None) -> None:
    """Raise `ReleaseError` unless the models read as many features as the manifest names."""
    for model in models:
        if model is not None and model.features not in (None, len(manifest.features)):
            raise ReleaseError(
                f"release {manifest.id} names {len(manifest.features)} features in its manifest, and has a model that "
                f"reads {model.features}: make it again with `anabranch reshare`"
            )


@dataclass(frozen=True)
class ServableRelease:
    """All that ranks. `number` stands for the release in arrays, where it marks the states and slates that it made."""

    manifest: Manifest
    number: int
    encoder: UserEncoder
    order: CandidateScorer
    text: TextEncoder
    item: OnnxItemEncoder
    index: ItemIndex
    purchase: OnnxPurchaseHead | None = None

    @classmethod
    def load(cls, files: ArtifactReader, manifest: Manifest, number: int = 0, threads: int = 1) -> ServableRelease:
        """Load a release, with an empty index. Raises `ReleaseError`, also if it was made for other features."""
        require_servable(manifest)
        columns = feature_columns(manifest)
        order = OnnxListRanker(files, threads, columns)
        purchase = OnnxPurchaseHead(files, threads, columns) if PURCHASE_HEAD in manifest.files else None
        _require_features(manifest, order, purchase)
        return cls(
            manifest=manifest,
            number=number,
            encoder=OnnxRecurrentEncoder(files, threads)
            if GATES in manifest.files
            else OnnxStepEncoder(files, threads),
            order=order,
            text=TextEncoder(files, threads),
            item=OnnxItemEncoder(files, threads),
            index=ItemIndex(manifest.dims),
            purchase=purchase,
        )

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        """Input vectors [n, d] of search queries."""
        return self.item.encode_text(self.text.encode(queries))
