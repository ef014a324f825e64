"""Ids of the rankings that answer requests."""

from __future__ import annotations

import secrets
import time
from itertools import count

from anabranch.ranking.ranking_id import NUMBER_BITS, Answered, ranking_id
from consumers.api.answers.queries import ItemsAnswer, Query, SlateQuery


class RankingIds:
    """Numbers the answers of a server, from a random number on.

    A random number for each would call the system, and wait for the interpreter lock behind the thread that ranks.
    """

    def __init__(self) -> None:
        self._numbers = count(secrets.randbits(NUMBER_BITS))

    def next(self, query: Query, answer: ItemsAnswer) -> str:
        """An id that no other ranking has, by which events say that they followed this one."""
        placement, offset = (query.placement, query.offset) if isinstance(query, SlateQuery) else ("", 0)
        now_ms = time.time_ns() // 1_000_000
        answered = Answered(answer.release, placement, now_ms, offset, next(self._numbers) % 2**NUMBER_BITS)
        return ranking_id(answered, [item.item_id for item in answer.items])
