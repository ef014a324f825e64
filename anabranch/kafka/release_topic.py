"""Topic `releases`, read to its end."""

from __future__ import annotations

from contextlib import suppress

from anabranch import messages
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.messages import InvalidMessage
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings


def read_release_notices(settings: Settings) -> ReleaseNotices:
    """The notices up to the topic's current end. Tombstones and records that are not valid notices are skipped.

    Raises `BrokerUnavailable`.
    """
    notices = ReleaseNotices()
    for record in clients.read_to_end(settings, [Topics(settings).releases]):
        if record.value is not None:
            with suppress(InvalidMessage):  # the ranker and the indexer log and count them
                notices.add(messages.releases.decode(record.value))
    return notices
