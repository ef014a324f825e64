"""By which policy a release serves: its own, unless the settings say otherwise."""

from __future__ import annotations

from anabranch.ranking.policy import Policy
from anabranch.release import ReleasePolicy
from anabranch.settings import Settings

FOR_REVIEWS = ReleasePolicy(exclude_seen=True, neighbours=32)


def test_what_the_settings_leave_open_the_release_decides() -> None:
    policy = Policy.from_settings(Settings(), FOR_REVIEWS)
    assert (policy.exclude_seen, policy.allow_session_repeats, policy.neighbours) == (True, False, 32)


def test_settings_go_before_the_release_also_where_they_switch_something_off() -> None:
    settings = Settings(exclude_seen=False, allow_session_repeats=True, neighbours=5)
    policy = Policy.from_settings(settings, FOR_REVIEWS)
    assert (policy.exclude_seen, policy.allow_session_repeats, policy.neighbours) == (False, True, 5)


def test_a_release_records_the_policy_that_it_was_trained_for() -> None:
    assert Policy.from_settings(Settings(), FOR_REVIEWS).for_release == FOR_REVIEWS
