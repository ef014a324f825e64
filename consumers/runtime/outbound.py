"""A message on its way out."""

from __future__ import annotations

from typing import NamedTuple


class Outgoing(NamedTuple):
    """What a producer sends. With `partition` None the key decides."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: list[tuple[str, bytes]] | None = None
