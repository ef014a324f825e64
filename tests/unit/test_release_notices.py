"""Which release is live: notices folded in log order."""

from __future__ import annotations

from anabranch.messages import ReleaseNotice, ReleaseStatus
from anabranch.release_notices import ReleaseNotices


def notice(release: str, status: ReleaseStatus = "live", ts: int = 1, parent: str | None = None) -> ReleaseNotice:
    return ReleaseNotice(release=release, status=status, ts=ts, location=release, manifest_sha256="0", parent=parent)


def fold(*notices: ReleaseNotice) -> ReleaseNotices:
    folded = ReleaseNotices()
    for entry in notices:
        folded.add(entry)
    return folded


def live(*notices: ReleaseNotice) -> str | None:
    found = fold(*notices).live
    return None if found is None else found.release


def test_without_a_live_notice_no_release_is_live() -> None:
    assert live() is None
    assert live(notice("r1", "candidate"), notice("r2", "rejected")) is None


def test_a_release_has_served_if_it_is_live_or_retired_but_not_if_the_gate_rejected_it() -> None:
    assert not fold(notice("r1", "candidate"), notice("r2", "rejected")).any_served
    assert fold(notice("r1", "retired")).any_served
    assert fold(notice("r1", "rejected"), notice("r2")).any_served


def test_of_two_live_releases_the_one_announced_last_is_live_whatever_the_clocks_say() -> None:
    assert live(notice("r1", ts=9), notice("r2", ts=5)) == "r2"


def test_retiring_the_release_before_leaves_the_live_one() -> None:
    assert live(notice("r1"), notice("r2"), notice("r1", "retired")) == "r2"


def test_a_live_release_that_is_retired_gives_way_to_the_one_announced_live_before_it() -> None:
    assert live(notice("r1"), notice("r2"), notice("r2", "retired")) == "r1"
    assert live(notice("r1"), notice("r1", "retired")) is None


def test_a_release_announced_live_again_is_live_again() -> None:
    assert live(notice("r1"), notice("r2"), notice("r1")) == "r1"


def test_a_compacted_log_leads_to_the_same_live_release() -> None:
    log = [notice("r1"), notice("r2"), notice("r1", "retired"), notice("r1"), notice("r3", "rejected"), notice("r2")]
    newest = {entry.release: index for index, entry in enumerate(log)}
    assert live(*log) == live(*(log[index] for index in sorted(newest.values()))) == "r2"


def test_the_parent_is_the_newest_notice_of_the_release_that_the_live_one_names() -> None:
    retired = notice("r1", "retired")
    assert fold(notice("r1"), notice("r2", parent="r1"), retired).parent == retired
    assert fold(notice("r2", parent="r1")).parent is None
    assert fold(notice("r1")).parent is None


def test_a_release_may_become_live_until_it_is_decided() -> None:
    notices = fold(notice("r1", "candidate"), notice("r2", "shadow"), notice("r3", "rejected"), notice("r4", "retired"))
    assert [notices.may_become_live(release) for release in ("r0", "r1", "r2", "r3", "r4")] == [True] * 3 + [False] * 2


def test_releases_stand_in_the_order_of_their_first_notices() -> None:
    assert list(fold(notice("r1"), notice("r2"), notice("r1", "retired")).newest) == ["r1", "r2"]
