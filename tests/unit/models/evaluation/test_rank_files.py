"""Ranks of the same events are in the same order, wherever they were ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation.rank_files import RankedEvents, write_ranks


def written(path: Path, users: list[str], items: list[int], rank: list[int]) -> dict[str, Any]:
    write_ranks(path, RankedEvents(users, np.array(items)), {"rank": np.array(rank)}, {"slices": ["cold_items"]})
    with np.load(path) as file:
        return {name: file[name].tolist() for name in file.files}


def test_events_are_in_the_order_of_their_users_and_then_as_given(tmp_path: Path) -> None:
    file = written(tmp_path / "ranks.npz", ["b", "a", "b", "a"], [1, 2, 3, 4], [10, 20, 30, 40])
    assert file["user"] == [0, 0, 1, 1]
    assert file["rank"] == [20, 40, 10, 30]
    assert file["slices"] == ["cold_items"]


def test_files_of_the_same_events_have_the_same_digest_whatever_the_order_of_their_users(tmp_path: Path) -> None:
    one = written(tmp_path / "one.npz", ["b", "a", "b"], [1, 2, 3], [1, 2, 3])
    same = written(tmp_path / "same.npz", ["a", "b", "b"], [2, 1, 3], [4, 5, 6])
    other_item = written(tmp_path / "item.npz", ["a", "b", "b"], [2, 1, 4], [4, 5, 6])
    other_user = written(tmp_path / "user.npz", ["a", "b", "c"], [2, 1, 3], [4, 5, 6])
    assert one["events"] == same["events"]
    assert len({one["events"], other_item["events"], other_user["events"]}) == 3


def test_no_id_of_a_user_is_in_the_file(tmp_path: Path) -> None:
    file = written(tmp_path / "ranks.npz", ["alice", "bob"], [1, 2], [1, 2])
    assert "alice" not in str(file)
