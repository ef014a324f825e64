"""How many bytes user states take: saved in the topic `user-state`, and in the memory of a ranker."""

from __future__ import annotations

from typing import Any

import numpy as np

from anabranch import messages
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY
from anabranch.ranking.user_state.block_pool import list_bytes
from anabranch.ranking.user_state.columns import record_bytes
from anabranch.ranking.user_state.formats import upgraded
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.settings import Settings

FLOAT_BYTES, HASH_BYTES = 2, 8


def measure(settings: Settings) -> dict[str, Any]:
    """Bytes per user, as JSON values. Reads the whole topic and counts the newest saved state of each user.

    In memory, a user has a record of fixed size and blocks for its lists. The slot index is not counted.
    """
    layout = StateLayout.from_settings(settings)
    sizes: dict[bytes, tuple[int, int, int]] = {}
    dims = state_dims = 0
    for record in clients.read_to_end(settings, [Topics(settings).user_state]):
        if record.key == STATE_MARKER_KEY:
            continue
        if record.value is None:
            sizes.pop(record.key, None)
            continue
        state = upgraded(messages.user_states.decode(record.value), layout.half_life_s)
        history, own_items = len(state.history_items) // HASH_BYTES, len(state.own_items) // HASH_BYTES
        sizes[record.key] = len(record.key) + len(record.value), history, own_items
        dims, state_dims = len(state.vector) // FLOAT_BYTES or dims, len(state.recurrent) // FLOAT_BYTES or state_dims
    saved, history_sizes, own_sizes = np.array(list(sizes.values()), np.int64).reshape(-1, 3).T
    record_fields = record_bytes(layout, dims, state_dims)
    record_size = sum(record_fields.values())
    max_size = record_size + int(list_bytes(np.array([layout.history]), np.array([layout.long_term_items]))[0])
    list_sizes = list_bytes(np.minimum(history_sizes, layout.history), np.minimum(own_sizes, layout.long_term_items))
    return {
        "users": len(sizes),
        "saved_bytes_per_user": _summary(saved),
        "dims": dims,
        "state_dims": state_dims,
        "memory_bytes_per_user": _summary(record_size + list_sizes),
        "memory_bytes_of_a_record": record_fields,
        "memory_bytes_per_user_at_most": max_size,
        "max_users": settings.max_users,
        "memory_bytes_at_most": settings.max_users * max_size,
    }


def _summary(sizes: Any) -> dict[str, float]:
    if len(sizes) == 0:
        return {}
    quantiles = {f"p{q}": float(np.percentile(sizes, q)) for q in (50, 99)}
    return {"mean": round(float(sizes.mean()), 1), **quantiles, "max": float(sizes.max())}
