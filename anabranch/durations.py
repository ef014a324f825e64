"""Durations in words."""

from __future__ import annotations

_UNITS = ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"))


def duration_text(ms: float) -> str:
    """A duration (ms) in the largest unit of which it has one, with enough digits: 6.3 days, 28.8 minutes."""
    for unit_ms, name in _UNITS:
        if ms >= unit_ms:
            return f"{ms / unit_ms:,.1f} {name}"
    return f"{ms / 1000:.3g} seconds"
