"""What is kept of users' events, in pages from a pool that all share: who has few events takes little memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Rows, Seconds

PAGE = 8
"""Entries of a page."""
NO_BLOCK = -1
NO_PAGES_GIVEN_BACK = (NO_BLOCK, 0)

Pages = NDArray[np.int32]


class History(NamedTuple):
    """The newest events about items, P pages. A user's are a ring: place n stands in their page n // PAGE."""

    following: Pages
    """[P] a user's next page, NO_PAGE after the last; of a page given back, the next of those."""
    spare: NDArray[np.int64]
    """[2] the first of the pages given back, and how many were ever taken."""
    item: Rows
    """[P, PAGE]"""
    type: NDArray[np.uint8]
    """[P, PAGE] by `EVENT_TYPES`"""
    second: Seconds
    """[P, PAGE] since 1970"""


class OwnItems(NamedTuple):
    """Users' items of before their history, an entry an item, P pages."""

    following: Pages
    spare: NDArray[np.int64]
    item: Rows
    """[P, PAGE]"""
    log: NDArray[np.float32]
    """[P, PAGE] log2 of the decayed count as a forward decay (Cormode et al., 2009): it needs no update as time
    goes by; the count at time t is 2 ** (log - t / half-life)."""
    times: NDArray[np.float32]
    """[P, PAGE] the count as it is"""
    first_s: Seconds
    last_s: Seconds


Pool = TypeVar("Pool", History, OwnItems)
Entries = TypeVar("Entries", int, NDArray[np.int64])


class BlockLists(NamedTuple):
    """The lists of n users side by side. What stands beyond a user's own sizes means nothing."""

    history_item: Rows
    """[n, H] by place in the ring; entry `observed % H` is written next."""
    history_type: NDArray[np.uint8]
    history_s: Seconds
    own_item: Rows
    """[n, M]"""
    own_log: NDArray[np.float32]
    own_count: NDArray[np.float32]
    own_first_s: Seconds
    own_last_s: Seconds

    @classmethod
    def blank(cls, n: int, history: int, own_items: int) -> BlockLists:
        """Room for n users' lists."""
        return cls(
            history_item=np.full((n, history), -1, np.int32),
            history_type=np.zeros((n, history), np.uint8),
            history_s=np.zeros((n, history), np.uint32),
            own_item=np.full((n, own_items), -1, np.int32),
            own_log=np.full((n, own_items), -np.inf, np.float32),
            own_count=np.zeros((n, own_items), np.float32),
            own_first_s=np.zeros((n, own_items), np.uint32),
            own_last_s=np.zeros((n, own_items), np.uint32),
        )


def pages_for(entries: Entries) -> Entries:
    """How many pages so many entries take; of each, where they are an array."""
    return -(-entries // PAGE)


def history_pool(pages: int) -> History:
    """Room for so many pages; memory is taken as they are: zeros cost none until written."""
    shape = (pages, PAGE)
    return History(
        np.zeros(pages, np.int32),
        np.array(NO_PAGES_GIVEN_BACK),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.uint8),
        np.zeros(shape, np.uint32),
    )


def own_items_pool(pages: int) -> OwnItems:
    """Room for so many pages; memory is taken as they are."""
    shape = (pages, PAGE)
    return OwnItems(
        np.zeros(pages, np.int32),
        np.array(NO_PAGES_GIVEN_BACK),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.uint32),
        np.zeros(shape, np.uint32),
    )


def moved(pool: Pool, larger: Pool) -> Pool:
    """The larger pool, with all that the other holds."""
    columns: zip[tuple[NDArray[Any], NDArray[Any]]] = zip(pool, larger, strict=True)
    for old, new in columns:
        new[: len(old)] = old
    return larger


def page_bytes(pool: History | OwnItems) -> int:
    """Bytes of one page."""
    columns: Iterable[NDArray[Any]] = pool
    return sum(column[:1].nbytes for column in columns if column is not pool.spare)


def bytes_taken(pool: History | OwnItems) -> int:
    """Bytes of the pages that were ever taken."""
    return int(pool.spare[1]) * page_bytes(pool)


@compiled
def take(following: Pages, spare: NDArray[np.int64], before: int) -> int:
    """A page, behind the user's page `before` if that is one."""
    page = int(spare[0])
    if page != NO_BLOCK:
        spare[0] = following[page]
    else:
        page = int(spare[1])
        spare[1] += 1
    following[page] = NO_BLOCK
    if before != NO_BLOCK:
        following[before] = page
    return page


@compiled
def give_back(following: Pages, spare: NDArray[np.int64], first: Pages) -> None:
    """Let go of the pages that begin at each of `first` [n]; it then has none."""
    for at in range(len(first)):
        page = first[at]
        if page == NO_BLOCK:
            continue
        last = page
        while following[last] != NO_BLOCK:
            last = following[last]
        following[last] = spare[0]
        spare[0] = page
        first[at] = NO_BLOCK


@compiled
def read(
    history: History,
    own: OwnItems,
    history_page: Pages,  # [n] each user's first
    own_page: Pages,  # [n]
    history_size: NDArray[np.int64],  # [n]
    own_size: Pages,  # [n]
    lists: BlockLists,  # to be filled
) -> None:
    """Fill in the lists of n users."""
    for at in range(len(history_page)):
        page = history_page[at]
        for place in range(history_size[at]):
            entry = place % PAGE
            if place > 0 and entry == 0:
                page = history.following[page]
            lists.history_item[at, place] = history.item[page, entry]
            lists.history_type[at, place] = history.type[page, entry]
            lists.history_s[at, place] = history.second[page, entry]
        read_own(
            own,
            own_page[at],
            own_size[at],
            at,
            lists.own_item,
            lists.own_log,
            lists.own_count,
            lists.own_first_s,
            lists.own_last_s,
        )


@compiled
def read_own(
    own: OwnItems,
    page: int,  # the user's first
    size: int,
    at: int,  # row to be filled of what follows, all [n, M]
    item: Rows,
    log: NDArray[np.float32],
    count: NDArray[np.float32],
    first_s: Seconds,
    last_s: Seconds,
) -> None:
    """Fill in one user's own items."""
    for place in range(size):
        entry = place % PAGE
        if place > 0 and entry == 0:
            page = own.following[page]
        item[at, place] = own.item[page, entry]
        log[at, place] = own.log[page, entry]
        count[at, place] = own.times[page, entry]
        first_s[at, place] = own.first_s[page, entry]
        last_s[at, place] = own.last_s[page, entry]


@compiled
def write(
    history: History,
    own: OwnItems,
    history_page: Pages,  # [n] NO_PAGE all, to be filled
    own_page: Pages,  # [n] NO_PAGE all, to be filled
    history_size: NDArray[np.int64],  # [n]
    own_size: Pages,  # [n]
    lists: BlockLists,
) -> None:
    """Put the lists of n users in pages of theirs."""
    for at in range(len(history_page)):
        page = NO_BLOCK
        for place in range(history_size[at]):
            entry = place % PAGE
            if entry == 0:
                page = take(history.following, history.spare, page)
                if place == 0:
                    history_page[at] = page
            history.item[page, entry] = lists.history_item[at, place]
            history.type[page, entry] = lists.history_type[at, place]
            history.second[page, entry] = lists.history_s[at, place]
        page = NO_BLOCK
        for place in range(own_size[at]):
            entry = place % PAGE
            if entry == 0:
                page = take(own.following, own.spare, page)
                if place == 0:
                    own_page[at] = page
            own.item[page, entry] = lists.own_item[at, place]
            own.log[page, entry] = lists.own_log[at, place]
            own.times[page, entry] = lists.own_count[at, place]
            own.first_s[page, entry] = lists.own_first_s[at, place]
            own.last_s[page, entry] = lists.own_last_s[at, place]
