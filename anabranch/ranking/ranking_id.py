"""The id of an answer of the serving API, which says what was ranked: nobody has to store the answer.

An event that echoes the id tells a ranker by which release, for which placement and when its item was ranked, and at
which place. An id is `a1.` and, in base64url without padding: time, 48 bits, milliseconds; number, 64 bits; places
before the first item, 16 bits; release and placement, each behind its length of 8 bits; 24 bits of each item's hash;
and a check of all of it, 16 bits. Of n items that are not in it, n / 700,000 are taken for one of its 24, on average.
Whoever may write events may make up an id, as any other part of an event.
"""

from __future__ import annotations

import binascii
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from anabranch.field_types import LATEST_MS
from anabranch.followed_ranking import FollowedRanking
from anabranch.messages import Event
from anabranch.ranking.vocabulary import stable_hash

PREFIX = "a1."
MAX_LENGTH = 512
"""Of any id, in characters: further items are left out."""
HEAD = struct.Struct(">HIQH")
NUMBER_BITS = 64
HASH_BYTES, CHECK_BYTES = 3, 2
CACHED_HASHES = 16_384
"""Of items: the same ones are in many answers."""
MAX_NAME_BYTES = 64
"""Of a release and of a placement; a longer one is left out, and nothing is known of whoever follows the ranking."""


class Answered(NamedTuple):
    """An answer of the serving API."""

    release: str
    placement: str
    """Empty: no user's slate, but similar items, say."""
    ts: int
    """UTC ms"""
    skipped: int
    """Places before the first item: the offset of the request."""
    number: int
    """By which answers differ that are alike in all else."""


def ranking_id(answered: Answered, item_ids: Sequence[str]) -> str:
    """The id."""
    names = b"".join(map(_name, (answered.release, answered.placement)))
    high, low = divmod(answered.ts, 2**32)
    head = HEAD.pack(high, low, answered.number, min(answered.skipped, 0xFFFF)) + names
    room = (MAX_LENGTH - len(PREFIX)) * 3 // 4 - len(head) - CHECK_BYTES
    content = head + b"".join(map(_item_hash, item_ids[: room // HASH_BYTES]))
    return PREFIX + urlsafe_b64encode(content + _check(content)).rstrip(b"=").decode()


def followed_ranking(event: Event) -> FollowedRanking | None:
    """The answer that the event's `ranking_id` is of, and the place of its item there; None if it is none of ours."""
    if event.ranking_id is None or not event.ranking_id.startswith(PREFIX):
        return None
    try:
        return _followed(_decoded(event.ranking_id), event.item_of_interest)
    except (ValueError, struct.error, IndexError):  # made up, or cut
        return None


def _decoded(text: str) -> bytes:
    """What an id holds. Raises `ValueError`."""
    encoded = text.removeprefix(PREFIX).encode("ascii")
    raw = urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    content, check = raw[:-CHECK_BYTES], raw[-CHECK_BYTES:]
    if check != _check(content):
        raise ValueError("the check differs")
    return content


def _followed(content: bytes, item_id: str | None) -> FollowedRanking | None:
    high, low, _, skipped = HEAD.unpack_from(content)
    release, start = _read_name(content, HEAD.size)
    placement, start = _read_name(content, start)
    ts = (high << 32) + low
    if not release or ts > LATEST_MS:
        return None
    index = None if item_id is None else _index(content[start:], _item_hash(item_id))
    return FollowedRanking(
        release=release,
        ts=ts,
        placement=placement,
        rank=None if index is None else skipped + index + 1,
    )


def _index(hashes: bytes, item_hash: bytes) -> int | None:
    starts = range(0, len(hashes), HASH_BYTES)
    return next((n for n, start in enumerate(starts) if hashes[start : start + HASH_BYTES] == item_hash), None)


def _name(name: str) -> bytes:
    encoded = name.encode()
    return b"\0" if len(encoded) > MAX_NAME_BYTES else bytes([len(encoded)]) + encoded


def _read_name(content: bytes, start: int) -> tuple[str, int]:
    """A name, and where it ends. Raises `IndexError`, and `ValueError` for what is no UTF-8."""
    end = start + 1 + content[start]
    return content[start + 1 : end].decode(), end


@lru_cache(CACHED_HASHES)
def _item_hash(item_id: str) -> bytes:
    return (stable_hash(item_id) & 0xFF_FFFF).to_bytes(HASH_BYTES, "big")


def _check(content: bytes) -> bytes:
    return binascii.crc_hqx(content, 0).to_bytes(CHECK_BYTES, "big")
