"""Slices of evaluated events, whose metrics are reported separately: an average can hide a loss on some of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES
from anabranch.placements import Placement
from models.data.event_log import NONE, EventLog
from models.data.event_traits import COLD_INTERACTIONS, repeated_pairs

LARGEST_DOMAINS = 20
"""Domains that are slices of their own; the others are one slice, so that the number of tests stays bounded."""
EARLIER_EVENTS = {"after_1_event": (1, 1), "after_2_events": (2, 2), "after_3_to_5_events": (3, 5)}
"""Slices of new users: the least and the most events that a user has had before."""

Mask = NDArray[np.bool_]


def cut_slices(
    log: EventLog, start: int, rows: NDArray[np.int64], repeat: Mask, domains: Sequence[str | None]
) -> dict[str, Mask]:
    """Slice name → mask [M] of its events. A slice may be empty, and slices overlap.

    `rows` [M] are the events' rows of `log`, from `start` on and about an item; `repeat` [M] marks those whose user
    had the item before. `domains` has each item's domain by item number; items beyond its end have none.

    The names are `task:TYPE` for each event type that occurs, `domain:DOMAIN` for the largest domains that occur,
    `other_domains` for the rest, `cold_items`, `repeat` and `new_to_user`.
    """
    item, type = log.item[rows], log.type[rows]
    interactions = np.bincount(log.take(slice(0, start)).with_items().item, minlength=len(log.item_ids))
    tasks = {f"task:{EVENT_TYPES[number]}": type == number for number in np.unique(type).tolist()}
    cold = {"cold_items": interactions[item] <= COLD_INTERACTIONS}
    return (
        tasks | dict(_by_domain(item, domains, len(log.item_ids))) | cold | {"repeat": repeat, "new_to_user": ~repeat}
    )


def new_users(log: EventLog, rows: NDArray[np.int64]) -> dict[str, Mask]:
    """Slices of users with few events so far, as masks [M] of the events at `rows` [M]; those without events are left
    out. Searches count."""
    _, events = np.unique(log.user, return_counts=True)
    earlier = np.empty(len(log), np.int64)
    earlier[np.argsort(log.user, kind="stable")] = np.arange(len(log)) - np.repeat(events.cumsum() - events, events)
    masks = {name: (earlier[rows] >= least) & (earlier[rows] <= most) for name, (least, most) in EARLIER_EVENTS.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def placement_events(placement: Placement, repeat: Mask) -> Mask:
    """Of events, whose user had the item before where `repeat` is set, those that a placement is for."""
    return {"allow": np.ones_like(repeat), "only": repeat, "never": ~repeat}[placement.repeats]


def placement_slice(placement: Placement) -> str | None:
    """The slice that has the events that a placement is for; None: it is for all."""
    return {"allow": None, "only": "repeat", "never": "new_to_user"}[placement.repeats]


def repeats(log: EventLog) -> Mask:
    """Mask [N] of the events about an item that their user had before."""
    return repeated_pairs(log.user, log.item)


def _by_domain(item: NDArray[np.int32], domains: Sequence[str | None], items: int) -> Iterator[tuple[str, Mask]]:
    """Slices of the largest domains, then one of all others, for the events about `item` [M]."""
    names = sorted({domain for domain in domains if domain is not None})
    number = {name: index for index, name in enumerate(names)}
    item_domain = np.full(items, NONE, np.int64)
    item_domain[: len(domains)] = [NONE if domain is None else number[domain] for domain in domains]
    domain = item_domain[item]  # [M]
    events = np.bincount(domain[domain != NONE], minlength=len(names))
    largest = np.argsort(-events, kind="stable")[:LARGEST_DOMAINS]
    for index in largest[events[largest] > 0].tolist():
        yield f"domain:{names[index]}", domain == index
    others = (domain != NONE) & ~np.isin(domain, largest)
    if others.any():
        yield "other_domains", others
