"""The releases that served before the one that serves: what the gate holds a candidate against."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice

from anabranch import release
from anabranch.ranking.pipeline.servable import require_servable
from anabranch.release import Release, ReleaseError
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings

log = logging.getLogger(__name__)

EARLIER_RELEASES = 5
"""So many are compared with. Ten releases in a row that are each worse by a margin, which no test of two tells from
chance, are worse than the first of them by ten."""


def earlier_releases(settings: Settings, notices: ReleaseNotices) -> list[Release]:
    """The newest releases that are retired and can still be served, newest first."""
    return list(islice(_servable(settings, notices), EARLIER_RELEASES))


def _servable(settings: Settings, notices: ReleaseNotices) -> Iterator[Release]:
    for notice in reversed(list(notices.newest.values())):
        if notice.status != "retired":
            continue
        try:
            earlier = release.open_announced(settings.releases_dir, notice)
            earlier.verify()
            require_servable(earlier.manifest)
        except ReleaseError as error:
            log.info("release %s is not compared with: %s", notice.release, error)
        else:
            yield earlier
