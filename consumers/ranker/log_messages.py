"""The log lines of a ranker that other programs look for: benchmarks and tests read times and partitions from them."""

from __future__ import annotations

ASSIGNED_PARTITIONS = "assigned partitions: "
"""Followed by the list of them, or by `none`."""
RELEASE_IS_LIVE = "is live with"
"""Between the release's id and the number of its items."""
RESTORED_PARTITION = "restored partition"
"""Followed by its number."""
