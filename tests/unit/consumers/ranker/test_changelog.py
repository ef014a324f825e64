"""What the log of user states may hold."""

from __future__ import annotations

import pytest
from kafka.consumer.fetcher import ConsumerRecord
from prometheus_client import CollectorRegistry

from anabranch.messages import STATE_MARKER_KEY
from anabranch.metrics import RankerMetrics
from anabranch.ranking.user_state.store import StateLayout, UserStates
from anabranch.ranking.vocabulary import ItemIds, ReleaseNumbers
from anabranch.settings import Settings
from consumers.ranker.changelog import StateLog, StateUnreadable


@pytest.fixture
def state_log() -> StateLog:
    states = UserStates(StateLayout(), 4, 4)
    return StateLog(Settings(), states, ItemIds(), ReleaseNumbers(), RankerMetrics(CollectorRegistry()))


@pytest.mark.parametrize(
    ("key", "value"), [(b"u", b"junk"), (b"u", b""), (STATE_MARKER_KEY, b"junk"), (None, b"junk"), (b"\xff", b"junk")]
)
def test_what_is_no_state_is_an_error_that_says_where_it_stands_and_what_to_do(
    state_log: StateLog, key: bytes | None, value: bytes
) -> None:
    record = ConsumerRecord("user-state", 1, 0, 17, 1, 0, key, value, [], None, 0, 0, 0)
    with pytest.raises(StateUnreadable, match="user-state, partition 1, offset 17") as raised:
        state_log.enter(1, [record])
    assert "Only rankers should write there" in str(raised.value)
