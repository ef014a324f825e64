"""What feedback says of the answer that an event followed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from anabranch.field_types import Milliseconds


class FollowedRanking(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An answer of the serving API, as the `ranking_id` that the event echoes tells it."""

    release: str
    """The one that ranked it."""
    ts: Milliseconds
    """When it was given."""
    placement: str = ""
    """Of a user's slate; empty: another answer, such as similar items."""
    rank: Annotated[int, Meta(ge=1)] | None = None
    """Place of the event's item, from 1; None: it was not among the items."""
