from __future__ import annotations

import pytest

from anabranch.durations import duration_text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 seconds"),
        (1, "0.001 seconds"),
        (1_500, "1.5 seconds"),
        (1_728_000, "28.8 minutes"),
        (3 * 3_600_000, "3.0 hours"),
        (6.3 * 86_400_000, "6.3 days"),
        (3_650 * 86_400_000, "3,650.0 days"),
    ],
)
def test_a_duration_keeps_its_digits(ms: float, text: str) -> None:
    assert duration_text(ms) == text
