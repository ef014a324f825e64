from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anabranch.co_visit_rule import CoVisitRule
from consumers.neighbours.saved_counts import SavedCounts, SavedPosition, read, write

RULE = CoVisitRule()
SAVED = SavedCounts([SavedPosition(0, 12, "t"), SavedPosition(1, 7)], {"users.last_ms": np.arange(3)})


def test_positions_and_arrays_come_back(tmp_path: Path) -> None:
    size = write(tmp_path / "new" / "counts.npz", RULE, SAVED)
    assert size == (tmp_path / "new" / "counts.npz").stat().st_size
    saved = read(tmp_path / "new" / "counts.npz", RULE)
    assert saved is not None
    assert saved.positions == SAVED.positions
    np.testing.assert_array_equal(saved.arrays["users.last_ms"], [0, 1, 2])


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read(tmp_path / "counts.npz", RULE) is None


def test_counts_of_another_rule_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "counts.npz", RULE, SAVED)
    assert read(tmp_path / "counts.npz", CoVisitRule(across=0.1)) is None
    assert "counted by another rule" in caplog.text


@pytest.mark.parametrize("payload", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_not_used_and_it_is_said(
    payload: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "counts.npz").write_bytes(payload)
    assert read(tmp_path / "counts.npz", RULE) is None
    assert "counted anew" in caplog.text
