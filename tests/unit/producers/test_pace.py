from __future__ import annotations

import pytest

from anabranch.errors import UsageError
from producers.pace import Pace


def test_full_speed_waits_for_nothing() -> None:
    assert Pace.parse(None).due_s(1000, 10**9) == 0


def test_a_multiple_of_data_time_shrinks_the_gaps() -> None:
    assert Pace.parse("1000x").due_s(3, 5_000_000) == 5


def test_a_rate_spaces_events_evenly() -> None:
    assert Pace.parse("500").due_s(1000, 0) == Pace.parse("500/s").due_s(1000, 0) == 2


@pytest.mark.parametrize("text", ["fast", "0x", "-1", "1000 x", ""])
def test_text_that_is_no_speed_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="1000x"):
        Pace.parse(text)
