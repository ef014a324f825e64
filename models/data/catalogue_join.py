"""The events of a log that are about items of a catalogue, and the searches."""

from __future__ import annotations

from collections.abc import Sequence

from models.data.event_log import EventLog, NotEnoughData

_EXAMPLES = 3


def join_catalogue(log: EventLog, item_ids: Sequence[str]) -> EventLog:
    """The events about items of the catalogue, and searches; item numbers become rows of `item_ids`.

    Raises `NotEnoughData`, which shows ids of both, if there is none.
    """
    if not item_ids:
        raise NotEnoughData(
            "the catalogue has no items: publish them with `anabranch catalogue`, or name another file with --items"
        )
    joined = log.renumbered(item_ids)
    if not len(joined.with_items()):
        in_events = [log.item_ids[item] for item in dict.fromkeys(log.with_items().item.tolist())]
        raise NotEnoughData(
            f"none of the {len(log):,} events is about an item of the catalogue. The events have {_some(in_events)}, "
            f"the catalogue has {_some(item_ids)}: write the ids of both in the same way"
        )
    return joined


def _some(item_ids: Sequence[str]) -> str:
    """The first ids, as text."""
    if not item_ids:
        return "no item ids"
    return ", ".join(map(repr, item_ids[:_EXAMPLES])) + (", …" if len(item_ids) > _EXAMPLES else "")
