"""How large user states are: saved in the log, and in a ranker's memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from anabranch import clients, messages
from anabranch.messages import STATE_MARKER_KEY
from anabranch.ranking.state import StateLayout, bytes_per_user
from anabranch.settings import Settings
from anabranch.topics import Topics

FLOAT_BYTES = 4


def measure(settings: Settings) -> dict[str, Any]:
    """Bytes a user, as JSON values. Reads the whole topic; the newest saved state of each user counts."""
    sizes: dict[bytes, int] = {}
    dims = state_dims = 0
    for record in clients.read_to_end(settings, [Topics(settings).user_state]):
        if record.key == STATE_MARKER_KEY:
            continue
        if record.value is None:
            sizes.pop(record.key, None)
            continue
        sizes[record.key] = len(record.key) + len(record.value)
        if not dims:
            state = messages.user_states.decode(record.value)
            dims, state_dims = len(state.vector) // FLOAT_BYTES, len(state.recurrent) // FLOAT_BYTES
    columns = bytes_per_user(StateLayout.of(settings), dims, state_dims)
    return {
        "users": len(sizes),
        "saved_bytes_per_user": _summary(np.array(list(sizes.values()))),
        "dims": dims,
        "state_dims": state_dims,
        "memory_bytes_per_user": sum(columns.values()),
        "memory_bytes_per_user_by_column": columns,
        "max_users": settings.max_users,
        "memory_bytes_at_most": settings.max_users * sum(columns.values()),
    }


def _summary(sizes: Any) -> dict[str, float]:
    if len(sizes) == 0:
        return {}
    quantiles = {f"p{q}": float(np.percentile(sizes, q)) for q in (50, 99)}
    return {"mean": round(float(sizes.mean()), 1), **quantiles, "max": float(sizes.max())}
