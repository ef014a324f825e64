"""What the log of user states may hold."""

from __future__ import annotations

import pytest
from kafka.consumer.fetcher import ConsumerRecord
from prometheus_client import CollectorRegistry

from anabranch.messages import STATE_MARKER_KEY, StateMarker, encode_binary
from anabranch.metrics import RankerMetrics
from anabranch.ranking.item_ids import ItemIds
from anabranch.ranking.live import ReleaseNumbers
from anabranch.ranking.saved_state import save
from anabranch.ranking.state import StateLayout, UserStates
from anabranch.settings import Settings
from consumers.state_log import StateLog

MARKER = StateMarker(offset=3, rankings_offset=0, epochs=[])


def record(key: bytes | None, value: bytes | None, offset: int = 17) -> ConsumerRecord:
    return ConsumerRecord("user-state", 1, 0, offset, 1, 0, key, value, [], None, 0, 0, 0)


def blank_state() -> bytes:
    """A saved state."""
    states = UserStates(StateLayout(), 4, 4)
    (state,) = save(states, states.slots(["u"]), ItemIds(), ReleaseNumbers())
    return encode_binary(state)


@pytest.mark.parametrize(("key", "value"), [(b"v", b"junk"), (b"v", b""), (None, b"junk"), (b"\xff", b"junk")])
def test_what_is_no_state_is_counted_and_passed_over(key: bytes | None, value: bytes) -> None:
    registry = CollectorRegistry()
    states = UserStates(StateLayout(), 4, 4)
    state_log = StateLog(Settings(), states, ItemIds(), ReleaseNumbers(), RankerMetrics(registry))
    records = [record(b"u", blank_state(), 5), record(key, value), record(STATE_MARKER_KEY, encode_binary(MARKER))]

    assert state_log.enter(1, records).marker == MARKER

    assert states.slot_of("u") is not None
    assert len(states) == 1
    assert registry.get_sample_value("anabranch_messages_passed_over_total", {"topic": "user-state"}) == 1
