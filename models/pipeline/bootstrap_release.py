"""The bootstrap release: made without training, so that a shop ranks from its first event.

Item vectors are text vectors, user vectors the decayed mean of them, and the list ranker is a linear function, with
fixed weights, of similarity, co-visits, the user's own counts and popularity. Every later release has to beat it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.messages import Item
from anabranch.ranking.inference.item_encoder import item_text
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.release import BOOTSTRAP, DataWindow, Manifest, digests
from models.data.event_log import EventLog
from models.networks.decayed_mean import decayed_mean_encoder
from models.networks.list_ranker import ListRanker
from models.networks.onnx_export import export_encoder, export_list_ranker
from models.networks.text_transformer import export_text, load_transformer, text_vectors
from models.pipeline.catalogue import ITEMS
from models.pipeline.config import ReleaseCandidateConfig
from models.pipeline.data_kind import KindDecision
from models.stages import Done

SAMPLE_TEXTS = 2_000
"""Distinct texts that the whitening is estimated from."""
WORD = re.compile(r"\w{3,}")
"""An entry of the tokenizer's vocabulary that is a word, not a part of one."""
FIXED_WEIGHTS: Mapping[str, float] = {
    "inner_product": 0.16,
    "like_last": 0.12,
    "co_visit_last": 0.08,
    "co_visit_recent": 0.15,
    "own": 0.1,
    "own_count": 1.2,
    "popularity": 0.22,
    "session_since": 0.5,
    "session_count": 0.25,
}
"""Feature → weight. Rounded from one linear ranker that was fitted to lists of a grocer's baskets, a marketplace's
sessions and a shop's reviews together; on held-out lists of each, NDCG@20 was within 6 % of a ranker of its own."""
FITTED_SCORING = CoVisitScoring()
"""The scoring of co-visits that `FIXED_WEIGHTS` were fitted to."""
FEATURE_SCALE = 2.0
"""Features are divided by it, so that all of them are inside the list ranker's clamp."""


@dataclass(frozen=True)
class BootstrapInputs:
    """What is known of a shop that begins: perhaps no event, perhaps no item."""

    log: EventLog
    items: list[Item]
    kind: KindDecision
    reason: str
    """Why no trained release serves."""


def make_bootstrap_release(
    inputs: BootstrapInputs,
    folder: Path,
    *,
    cache: Path,
    config: ReleaseCandidateConfig,
    done: Done = lambda share: None,
) -> Manifest:
    """Write every file of the release except the manifest into `folder`, which names it; return the manifest.

    `cache` holds text vectors between runs.
    """
    started = time.perf_counter()
    torch.set_num_threads(config.threads)
    export_text(folder, config.quantise_text, load_transformer(config.text.model))
    done(0.5)
    texts = sorted({item_text(item) for item in inputs.items} - {""})
    sample = _sample_texts(texts, folder, config.random_seed)
    vectors = text_vectors(sample, folder, cache, config.threads, lambda n: done(0.4 * n / len(sample)))
    encoder = decayed_mean_encoder(vectors, config.dims)
    list_ranker = fixed_list_ranker()
    (folder / ITEMS).write_bytes(b"{}")  # no item has a residual
    parity = export_encoder(encoder, folder) | export_list_ranker(list_ranker, folder)
    done(0.1)
    return Manifest(
        id=folder.name,
        parent=None,
        created=time.time_ns() // 1_000_000,
        dims=encoder.config.dims,
        state_dims=encoder.config.state_dims,
        text_dims=encoder.config.text_dims,
        features=list(FEATURES),
        seeds=["text", "co_visit"],
        strategy=_strategy(inputs, len(texts), time.perf_counter() - started),
        window=_window(inputs.log),
        parity=parity,
        gate={},
        files=digests(folder),
        policy=replace(config.policy, co_visit_scoring=FITTED_SCORING).for_release,
        co_visits=config.co_visits,
    )


@torch.no_grad()
def fixed_list_ranker() -> ListRanker:
    """A list ranker whose scores are the sum of the features by `FIXED_WEIGHTS`."""
    ranker = ListRanker(len(FEATURES), hidden=1)
    for parameter in ranker.parameters():
        torch.nn.init.zeros_(parameter)
    ranker.deviation.fill_(FEATURE_SCALE)
    for name, weight in FIXED_WEIGHTS.items():
        ranker.linear_skip.weight[0, FEATURES.index(name)] = weight * FEATURE_SCALE
    return ranker.eval()


def _sample_texts(texts: list[str], folder: Path, random_seed: int) -> list[str]:
    """`SAMPLE_TEXTS` of the items' distinct texts; and words that the text transformer knows where these are few, so
    that items which come later differ in other directions than the first ones."""
    if len(texts) < SAMPLE_TEXTS:
        vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
        words = (word for word in sorted(vocabulary, key=vocabulary.__getitem__) if WORD.fullmatch(word))
        return texts + list(islice(words, SAMPLE_TEXTS - len(texts)))
    chosen = np.random.default_rng(random_seed).choice(len(texts), SAMPLE_TEXTS, replace=False)
    return [texts[index] for index in np.sort(chosen)]


def _strategy(inputs: BootstrapInputs, texts: int, seconds: float) -> dict[str, Any]:
    return {
        "name": BOOTSTRAP,
        "reason": inputs.reason,
        "kind": inputs.kind.describe(),
        "order_weights": dict(FIXED_WEIGHTS),
        "measured": {
            "items": float(len(inputs.items)),
            "texts": float(texts),
            "events": float(len(inputs.log)),
            "users": float(len(np.unique(inputs.log.user))),
        },
        "seconds": {BOOTSTRAP: seconds},
    }


def _window(log: EventLog) -> DataWindow:
    """All events are before the gate: none has decided on this release, and none has trained it."""
    start, end = (int(log.ts[0]), int(log.ts[-1]) + 1) if len(log) else (0, 0)
    return DataWindow(train_from=start, order_from=end, gate_from=end, gate_to=end, events=len(log))
