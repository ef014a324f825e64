"""The ranker's membership of its group, where kafka-python leaves something to be desired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from anabranch.settings import Settings
from anabranch.topics import Topics
from consumers.intake import Intake
from tests.kafka.world import await_true


@pytest.fixture
def intake(settings: Settings, topics: Topics) -> Iterator[Intake]:
    with closing(Intake(settings, topics.events)) as made:

        def given() -> bool:
            made.collect()
            change = made.rebalanced()
            return change is not None and change.assigned == {0, 1}

        await_true(given, "both partitions")
        yield made


def test_a_member_thrown_out_while_it_rejoins_is_told_of_its_loss(intake: Intake) -> None:
    """Or it would claim, under another name, partitions that others have had meanwhile."""
    coordinator = intake._consumer._coordinator
    coordinator.rejoining = True  # a JoinGroup is in flight
    coordinator.reset_generation()  # and the answer is that the group does not know the member

    assert not intake.settled
    told: list[frozenset[int]] = []

    def lost_and_given_back() -> bool:
        intake.collect()
        change = intake.rebalanced()
        if change is not None:
            told.extend((change.revoked, change.assigned))
        return frozenset({0, 1}) in told[1::2]

    await_true(lost_and_given_back, "the partitions to be given back")
    assert told[0] == {0, 1}, "first they are lost"


def test_a_membership_that_is_only_being_joined_fences_nothing(intake: Intake) -> None:
    before = intake.membership
    intake._consumer._coordinator.reset_generation()
    assert not intake.settled
    assert intake.membership is before
    assert before.generation_id >= 0
