"""Whether rankers forget items that they must not show again."""

from __future__ import annotations

import numpy as np

from models.data.event_log import EventLog
from models.pipeline.config import ReleaseCandidateConfig

USERS_REMEMBERED = 0.95
"""Share of the users whose items should all be remembered."""


def forgotten_items(log: EventLog, config: ReleaseCandidateConfig) -> str | None:
    """What to set so that rankers remember the items of most users; None if they do.

    A ranker excludes what it remembers: a user's newest events and a number of older items. None as well if the policy
    excludes nothing for good.
    """
    events = np.unique(log.with_items().user, return_counts=True)[1]
    if not config.policy.exclude_seen or not len(events):
        return None
    layout, most = config.layout, int(np.quantile(events, USERS_REMEMBERED))
    remembered = layout.history + layout.long_term_items
    if most <= remembered:
        return None
    return (
        f"one user in {1 / (1 - USERS_REMEMBERED):.0f} has had {most:,} items or more, and rankers remember "
        f"{remembered:,}: older ones are shown again. Set own_items to {most - layout.history:,} or more"
    )
