"""Parts of a trial's events that are looked at one by one: an average hides who pays for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES
from models.data.event_log import NONE, EventLog

COLD_INTERACTIONS = 5
"""An item with no more events than this before the trial is cold: it is known by its text alone, or nearly."""
LARGEST_DOMAINS = 20
"""So many domains are looked at one by one, and the others together: who makes up domains must not make up tests."""

Mask = NDArray[np.bool_]


def cut_slices(
    log: EventLog, start: int, rows: NDArray[np.int64], repeat: Mask, domains: Sequence[str | None]
) -> dict[str, Mask]:
    """Name → which of the M events belong to it, [M] each; a slice may be empty, and slices overlap.

    `rows` [M] are the events' rows of `log`, from `start` on and about an item; `repeat` [M] tells those whose user
    had the item before. `domains` has each item's domain by the item's number; items beyond it have none.

    The names are `task:TYPE` for each event type there, `domain:DOMAIN` for the largest domains there and
    `other_domains` for the rest, `cold_items`, `repeat` and `new_to_user`.
    """
    item, type = log.item[rows], log.type[rows]
    seen = np.bincount(log.take(slice(0, start)).with_items().item, minlength=len(log.item_ids))
    tasks = {f"task:{EVENT_TYPES[at]}": type == at for at in np.unique(type).tolist()}
    cold = {"cold_items": seen[item] <= COLD_INTERACTIONS}
    return (
        tasks | dict(_by_domain(item, domains, len(log.item_ids))) | cold | {"repeat": repeat, "new_to_user": ~repeat}
    )


def repeats(log: EventLog) -> Mask:
    """Which events [N] are about an item that their user had before."""
    pair = log.user.astype(np.int64) * (len(log.item_ids) + 1) + log.item
    repeat = np.ones(len(log), np.bool_)
    repeat[np.unique(pair, return_index=True)[1]] = False
    return repeat


def _by_domain(item: NDArray[np.int32], domains: Sequence[str | None], items: int) -> Iterator[tuple[str, Mask]]:
    names = sorted({domain for domain in domains if domain is not None})
    number = {name: at for at, name in enumerate(names)}
    of_item = np.full(items, NONE, np.int64)
    of_item[: len(domains)] = [NONE if domain is None else number[domain] for domain in domains]
    domain = of_item[item]  # [M]
    events = np.bincount(domain[domain != NONE], minlength=len(names))
    largest = np.argsort(-events, kind="stable")[:LARGEST_DOMAINS]
    for at in largest[events[largest] > 0].tolist():
        yield f"domain:{names[at]}", domain == at
    others = (domain != NONE) & ~np.isin(domain, largest)
    if others.any():
        yield "other_domains", others
