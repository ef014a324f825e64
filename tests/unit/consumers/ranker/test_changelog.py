"""Loading saved states from `user-state`."""

from __future__ import annotations

import pytest
from kafka.consumer.fetcher import ConsumerRecord
from prometheus_client import CollectorRegistry

from anabranch.messages import STATE_MARKER_KEY
from anabranch.metrics import RankerMetrics
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from consumers.ranker.changelog import Changelog, StateUnreadable
from consumers.ranker.state_store import StateStore
from tests.support.in_memory_kafka import InMemoryKafka


@pytest.fixture
def changelog() -> Changelog:
    store = StateStore(UserStates(StateLayout(), 4, 4), ItemVocabulary(), ReleaseNumbers())
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
