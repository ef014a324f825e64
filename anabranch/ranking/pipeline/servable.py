"""A live release: its encoder, list ranker, optional heads and item index, which are swapped together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anabranch.ranking.inference.item_encoder import OnnxItemEncoder, TextEncoder
from anabranch.ranking.inference.list_ranker import OnnxListRanker
from anabranch.ranking.inference.purchase_head import OnnxPurchaseHead
from anabranch.ranking.inference.user_encoder import OnnxRecurrentEncoder, OnnxStepEncoder, UserEncoder
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Vectors
from anabranch.release import GATES, PURCHASE_HEAD, ArtifactReader, Manifest, ReleaseError


def require_servable(manifest: Manifest) -> None:
    """Raise `ReleaseError` unless this version of Anabranch builds the features by which the release ranks."""
    if tuple(manifest.features) != FEATURES:
        raise ReleaseError(
            f"release {manifest.id} ranks by the features {', '.join(manifest.features)}; this version builds "
            f"{', '.join(FEATURES)}: run `anabranch reshare` of this version, or rank with the version of the release"
        )


@dataclass(frozen=True)
class ServableRelease:
    """All that ranks. `number` stands for the release in arrays, where it marks the states and slates that it made."""

    manifest: Manifest
    number: int
    encoder: UserEncoder
    order: OnnxListRanker
    text: TextEncoder
    item: OnnxItemEncoder
    index: ItemIndex
    purchase: OnnxPurchaseHead | None = None

    @classmethod
    def load(cls, files: ArtifactReader, manifest: Manifest, number: int = 0, threads: int = 1) -> ServableRelease:
        """Load a release, with an empty index. Raises `ReleaseError`, also if it was made for other features."""
        require_servable(manifest)
        return cls(
            manifest=manifest,
            number=number,
            encoder=OnnxRecurrentEncoder(files, threads)
            if GATES in manifest.files
            else OnnxStepEncoder(files, threads),
            order=OnnxListRanker(files, threads),
            text=TextEncoder(files, threads),
            item=OnnxItemEncoder(files, threads),
            index=ItemIndex(manifest.dims),
            purchase=OnnxPurchaseHead(files, threads) if PURCHASE_HEAD in manifest.files else None,
        )

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        """Input vectors [n, d] of search queries."""
        return self.item.encode_text(self.text.encode(queries))
