from __future__ import annotations

import numpy as np
import pytest
import torch

from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Sequences
from models.seeds.attention import Attention, AttentionConfig, AttentionSeedModel

RING = 10
KINDS = ("sasrec", "hstu")


def log(users: int = 60, length: int = 8) -> EventLog:
    """Users step round a ring of items from a random start, even ones upwards, odd ones downwards."""
    user = np.repeat(np.arange(users), length)
    step = np.where(user % 2 == 0, 1, -1) * (np.arange(len(user)) % length)
    start = np.random.default_rng(0).integers(0, RING, users)
    return EventLog.from_columns(
        EventColumns(user, (start[user] + step) % RING, np.zeros(len(user), np.int64), np.arange(len(user)), user),
        user_ids=tuple(map(str, range(users))),
        item_ids=tuple(map(str, range(RING))),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_two_items_are_enough_to_infer_a_users_direction(kind: str) -> None:
    config = AttentionConfig(
        kind=kind, dims=16, window=8, epochs=30, events_per_step=128, negatives=32, dropout=0.0, learning_rate=1e-2
    )
    seed_model = AttentionSeedModel(config=config)
    seed_model.fit(log(), np.zeros((RING, 1), np.float32), lambda share: None)
    sequences = Sequences.from_log(log())
    rows = np.flatnonzero((np.arange(len(sequences)) % 8 > 0) & (np.arange(len(sequences)) % 8 < 7))
    top_k = seed_model.predict_top_k(sequences.contexts(rows, 8), 1)
    assert (top_k.items[:, 0] == sequences.item[rows + 1]).mean() > 0.9, "the newest item alone would give one half"
    assert top_k.confidence.mean() > 0.7


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_user_vector_depends_on_earlier_items_only(kind: str) -> None:
    torch.manual_seed(0)
    network = Attention(20, AttentionConfig(kind=kind, dims=8, window=6)).eval()
    items = torch.randint(0, 20, (3, 6))
    changed = items.clone()
    changed[:, 3] = (items[:, 3] + 1) % 20
    before, after = network(items), network(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert ((before[:, 3:] - after[:, 3:]).abs().amax(dim=-1) > 1e-6).all()
