"""Prefixes of topics and groups, so that tests on one broker do not meet."""

from __future__ import annotations

from uuid import uuid4


def unique_prefix() -> str:
    """A prefix that no other test has."""
    return f"test-{uuid4().hex[:12]}."
