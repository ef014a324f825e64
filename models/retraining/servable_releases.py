"""The announced releases that this version can serve: the live one, and those that served before it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice

from anabranch import release
from anabranch.messages import ReleaseNotice
from anabranch.ranking.pipeline.servable import require_servable
from anabranch.release import Release, ReleaseError
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from models.gate.release_gate import EARLIER_RELEASES

log = logging.getLogger(__name__)


def open_incumbent(settings: Settings, live: ReleaseNotice | None) -> tuple[Release | None, str | None]:
    """The live release, or the reason why this version cannot serve it: its features, or its files."""
    if live is None:
        return None, None
    try:
        return _open_servable(settings, live), None
    except ReleaseError as error:
        log.warning("the live release %s counts as none: %s", live.release, error)
        return None, str(error)


def earlier_releases(settings: Settings, notices: ReleaseNotices) -> list[Release]:
    """The newest `EARLIER_RELEASES` of the releases that are retired and can still be served, newest first."""
    return list(islice(_retired(settings, notices), EARLIER_RELEASES))


def _retired(settings: Settings, notices: ReleaseNotices) -> Iterator[Release]:
    for notice in reversed(list(notices.newest.values())):
        if notice.status != "retired":
            continue
        try:
            yield _open_servable(settings, notice)
        except ReleaseError as error:
            log.info("no candidate is compared with %s: %s", notice.release, error)


def _open_servable(settings: Settings, notice: ReleaseNotice) -> Release:
    """A release whose files are whole. Raises `ReleaseError` if they are not, or if this version cannot serve it."""
    opened = release.open_announced(settings.releases_dir, notice)
    opened.verify()
    require_servable(opened.manifest)
    return opened
