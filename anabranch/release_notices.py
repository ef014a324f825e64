"""Which release is live: the one rule, over the notices of topic `releases`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from anabranch.messages import ReleaseNotice


class ReleaseNotices:
    """Notices folded in log order; the topic has one partition, so their order is the same for every reader.

    Of the releases whose newest notice says `live`, the one announced last is live. Time stamps do not count: the
    clocks of two machines that announce releases may differ. Compaction keeps the newest notice of each release, so a
    reader of a compacted topic comes to the same result.
    """

    def __init__(self) -> None:
        self._newest: dict[str, ReleaseNotice] = {}
        self._live: dict[str, ReleaseNotice] = {}
        """Releases whose newest notice says `live`, in the order of those notices."""

    def add(self, notice: ReleaseNotice) -> None:
        """Fold the next notice in log order."""
        self._newest[notice.release] = notice
        self._live.pop(notice.release, None)
        if notice.status == "live":
            self._live[notice.release] = notice

    @property
    def newest(self) -> Mapping[str, ReleaseNotice]:
        """The newest notice of every release by its id, in the order in which the releases were first announced."""
        return MappingProxyType(self._newest)

    @property
    def live(self) -> ReleaseNotice | None:
        """The live release's notice; None if no release is live."""
        return next(reversed(self._live.values()), None)

    @property
    def any_served(self) -> bool:
        """Whether a release is or was live."""
        return any(notice.status in ("live", "retired") for notice in self._newest.values())

    @property
    def parent(self) -> ReleaseNotice | None:
        """The newest notice of the release that the live one replaced; None if it replaced none."""
        live = self.live
        return None if live is None or live.parent is None else self._newest.get(live.parent)

    def may_become_live(self, release: str) -> bool:
        """Whether a release is not decided yet: it has no notice, or its newest says `candidate` or `shadow`."""
        notice = self._newest.get(release)
        return notice is None or notice.status in ("candidate", "shadow")
