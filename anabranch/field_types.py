"""Types of fields that messages of several modules have."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

NO_CONTROL_CHARACTER = r"^(?![\s\S]*[\u0000-\u001f\u007f-\u009f])"
"""Ids are used in keys, logs and terminals, and U+001F separates the parts of a key."""
Identifier = Annotated[str, Meta(min_length=1, max_length=512, pattern=NO_CONTROL_CHARACTER)]
LATEST_MS = 253_402_300_799_999
Milliseconds = Annotated[int, Meta(ge=0, le=LATEST_MS, description="UTC, milliseconds since 1970")]
"""Up to the year 9999, so that a time in microseconds is refused instead of taken for the far future."""
Category = Annotated[list[Annotated[str, Meta(max_length=512)]], Meta(max_length=32)]
"""The path of an item's category, the broadest first."""
