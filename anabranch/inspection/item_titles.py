"""Titles of items, from the catalogue."""

from __future__ import annotations

from collections.abc import Collection

from anabranch.inspection.topic_messages import read_messages
from anabranch.messages import Item
from anabranch.settings import Settings


def read_titles(settings: Settings, item_ids: Collection[str]) -> dict[str, str]:
    """The titles of those of the items that the catalogue has. Reads the whole topic."""
    titles: dict[str, str] = {}
    for message in read_messages(settings, ["items"]):
        if isinstance(message.message, Item) and message.message.item_id in item_ids:
            titles[message.message.item_id] = message.message.title
    return titles
