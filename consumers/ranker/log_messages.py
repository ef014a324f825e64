"""The log lines of a ranker that other programs look for: benchmarks and tests read times and partitions from them."""

from __future__ import annotations

ASSIGNED_PARTITIONS = "assigned partitions: "
"""Followed by the list of them, or by `none`."""
RESTORED_PARTITION = "restored partition"
"""Followed by its number."""
