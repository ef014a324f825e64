from __future__ import annotations

import pytest

from anabranch.errors import UsageError
from anabranch.kafka.records import batch_bytes
from anabranch.messages import Event, encode
from anabranch.settings import Settings
from producers.collector.forms.limits import FRAME_BYTES, CollectorLimits
from producers.event_record import event_record


def test_the_defaults_go_together() -> None:
    assert CollectorLimits.from_settings(Settings()) == CollectorLimits(1_048_576, 32_768, 1_000)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(max_message_bytes=36_863), "more than max_message_bytes 36863: lower the one or raise the other"),
        (Settings(collect_bytes_in_flight=1_000_000), "more than collect_bytes_in_flight 1000000"),
    ],
)
def test_limits_that_let_in_what_would_fail_later_are_refused(settings: Settings, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        CollectorLimits.from_settings(settings)


def test_the_longest_key_and_the_frame_fit_into_the_room_for_them() -> None:
    event = Event(event_id="e", user_id="\U0001f3e0" * 512, type="view", ts=1, item_id="i")
    record = event_record("events", event)
    assert batch_bytes(record.key, record.value, ()) - len(encode(event)) <= FRAME_BYTES
