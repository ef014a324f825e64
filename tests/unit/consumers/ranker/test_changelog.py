"""Loading saved states from `user-state`."""

from __future__ import annotations

import pytest
from kafka.consumer.fetcher import ConsumerRecord
from prometheus_client import CollectorRegistry

from anabranch.codec import encode_binary
from anabranch.kafka.record_batches import UnreadableValue
from anabranch.messages import STATE_MARKER_KEY, StateMarker
from anabranch.metrics import RankerMetrics
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from consumers.user_states.changelog import Changelog, StateUnreadable
from consumers.user_states.state_store import StateStore
from tests.support.in_memory_kafka import InMemoryKafka
from tests.support.layouts import LAYOUT


@pytest.fixture
def changelog() -> Changelog:
    store = StateStore(UserStates(LAYOUT, 4, 4), ItemVocabulary(), ReleaseNumbers())
    return Changelog(InMemoryKafka().log_reader(), "user-state", store, 10, RankerMetrics(CollectorRegistry()))


@pytest.mark.parametrize(
    ("key", "value"), [(b"u", b"junk"), (b"u", b""), (STATE_MARKER_KEY, b"junk"), (None, b"junk"), (b"\xff", b"junk")]
)
def test_an_invalid_saved_state_is_an_error_with_its_position_and_the_remedy(
    changelog: Changelog, key: bytes | None, value: bytes
) -> None:
    record = ConsumerRecord("user-state", 1, 0, 17, 1, 0, key, value, [], None, 0, 0, 0)
    with pytest.raises(StateUnreadable, match="user-state, partition 1, offset 17") as raised:
        changelog.load(1, [record])
    assert "Only rankers should write there" in str(raised.value)


def test_a_state_in_an_unreadable_batch_is_an_error_even_with_a_marker_behind_it(changelog: Changelog) -> None:
    """It has no key, as a marker has."""
    values = (
        UnreadableValue("unreadable", "no zstd"),
        encode_binary(StateMarker(offset=0, rankings_offset=0, epochs=[])),
    )
    records = [
        ConsumerRecord("user-state", 1, 0, offset, 1, 0, None, value, [], None, 0, 0, 0)
        for offset, value in enumerate(values)
    ]
    with pytest.raises(StateUnreadable, match="user-state, partition 1, offset 0: no zstd"):
        changelog.load(1, records)
