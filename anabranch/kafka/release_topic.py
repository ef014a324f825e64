"""Topic `releases`: read to its end, and notices published."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

import msgspec

from anabranch import messages, release
from anabranch.errors import UsageError
from anabranch.kafka import clients, topics
from anabranch.kafka.producer import CheckedProducer
from anabranch.kafka.topics import Topics
from anabranch.messages import InvalidMessage, ReleaseNotice
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


def live_notice(settings: Settings, folder: Path, ts: int, reason: str) -> ReleaseNotice:
    """The notice (UTC milliseconds `ts`) that makes the release in a folder the live one. Verifies all its files.

    Raises `ReleaseError`, and `UsageError` if the folder is not in `releases_dir`, where all processes look for it.
    """
    try:
        location = folder.resolve().relative_to(settings.releases_dir.resolve())
    except ValueError as error:
        raise UsageError(
            f"{folder} is not in {settings.releases_dir}, where all processes look for releases: copy it there, or set "
            "releases_dir"
        ) from error
    opened = release.open_release(folder)
    opened.verify()
    return ReleaseNotice(
        release=opened.manifest.id,
        status="live",
        ts=ts,
        location=str(location),
        manifest_sha256=release.digest(folder / release.MANIFEST),
        parent=opened.manifest.parent,
        reason=reason,
    )


def announce(settings: Settings, notice: ReleaseNotice) -> None:
    """Publish a release's notice, and wait for the broker's acknowledgement. Raises `KafkaError`."""
    with closing(clients.producer(settings)) as producer, CheckedProducer(producer) as delivery:
        delivery.send(Topics(settings).releases, topics.key(notice.release), messages.encode(notice))


def go_live(settings: Settings, notice: ReleaseNotice, incumbent: ReleaseNotice | None) -> None:
    """Announce a live release, then that the one it replaces is retired. Raises `KafkaError`."""
    announce(settings, notice)
    if incumbent is not None and incumbent.release != notice.release:
        announce(settings, msgspec.structs.replace(incumbent, status="retired", ts=notice.ts))
