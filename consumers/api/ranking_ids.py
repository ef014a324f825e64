"""Ids of the rankings that answer requests."""

from __future__ import annotations

import secrets
from itertools import count


class RankingIds:
    """64 random bits of the process and a number, as 32 hexadecimal digits.

    `uuid4` would call the system for each, and wait for the interpreter lock again behind the thread that ranks.
    """

    def __init__(self) -> None:
        self._process = secrets.token_hex(8)
        self._numbers = count()

    def next(self) -> str:
        """An id that no other ranking has."""
        return f"{self._process}{next(self._numbers):016x}"
