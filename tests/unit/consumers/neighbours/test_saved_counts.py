from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anabranch.co_visit.shard import WHOLE, Shard
from anabranch.co_visit_rule import CoVisitRule
from anabranch.settings import Settings
from consumers.neighbours.saved_counts import SavedCounts, SavedPosition, path_of, read, write

RULE = CoVisitRule()
SAVED = SavedCounts([SavedPosition(0, 12, "t"), SavedPosition(1, 7)], {"users.last_ms": np.arange(3)})


def test_positions_and_arrays_come_back(tmp_path: Path) -> None:
    size = write(tmp_path / "new" / "counts.npz", RULE, WHOLE, SAVED)
    assert size == (tmp_path / "new" / "counts.npz").stat().st_size
    saved = read(tmp_path / "new" / "counts.npz", RULE, WHOLE)
    assert saved is not None
    assert saved.positions == SAVED.positions
    np.testing.assert_array_equal(saved.arrays["users.last_ms"], [0, 1, 2])


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read(tmp_path / "counts.npz", RULE, WHOLE) is None


def test_counts_of_another_rule_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "counts.npz", RULE, WHOLE, SAVED)
    assert read(tmp_path / "counts.npz", CoVisitRule(across=0.1), WHOLE) is None
    assert "counted by another rule" in caplog.text


@pytest.mark.parametrize("other", [WHOLE, Shard(0, 2), Shard(1, 3)], ids=str)
def test_counts_of_another_shard_are_not_used_and_it_is_said_why(
    other: Shard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "counts.npz", RULE, other, SAVED)
    assert read(tmp_path / "counts.npz", RULE, Shard(1, 2)) is None
    assert f"has the counts of {other}, and this is shard 1 of 2: all events" in caplog.text
    assert read(tmp_path / "counts.npz", RULE, other) is not None


def test_a_file_that_says_nothing_of_shards_has_the_counts_of_all_items(tmp_path: Path) -> None:
    """Versions before shards wrote such files."""
    header = {"format": 1, "rule": asdict(RULE), "positions": []}
    np.savez(tmp_path / "counts.npz", header=np.frombuffer(msgspec.json.encode(header), np.uint8))
    assert read(tmp_path / "counts.npz", RULE, WHOLE) is not None
    assert read(tmp_path / "counts.npz", RULE, Shard(0, 2)) is None


def test_every_shard_has_a_file_of_its_own_and_a_single_process_the_one_of_before() -> None:
    def file_of(shard: int, shards: int) -> str:
        return path_of(Settings(neighbours_shard=shard, neighbours_shards=shards)).name

    assert file_of(0, 1) == "counts.npz"
    assert len({file_of(0, 1), file_of(0, 2), file_of(1, 2)}) == 3


@pytest.mark.parametrize("payload", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_not_used_and_it_is_said(
    payload: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "counts.npz").write_bytes(payload)
    assert read(tmp_path / "counts.npz", RULE, WHOLE) is None
    assert "counted anew" in caplog.text
