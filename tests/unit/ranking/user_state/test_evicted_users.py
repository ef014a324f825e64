"""The table of evicted users, against a dictionary, and its size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.ranking.user_state.evicted_users import NOT_EVICTED, EvictedUsers
from anabranch.ranking.user_state.slot_index import UserKeys

USERS = 400
MAX_BYTES_PER_USER = 29


def keys(users: list[int], capacity_hint: int = 1) -> UserKeys:
    """Three users each have the same hash, and many hashes the same ideal entry."""
    hashes = np.array([(user // 3) * 64 * capacity_hint - 5 for user in users], np.int64)
    return UserKeys(hashes, np.array([user % 3 + 65_533 for user in users], np.uint16))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove"]), st.lists(st.integers(0, USERS - 1), unique=True)), max_size=30
    )
)
def test_the_table_finds_what_a_dictionary_finds(steps: list[tuple[str, list[int]]]) -> None:
    table, expected, offset = EvictedUsers(), dict[int, int](), 0
    for step, users in steps:
        if step == "add":
            offsets = [*range(offset, offset + len(users))]
            offset += len(users)
            table.add(keys(users), np.array(offsets, np.int64))
            expected.update(zip(users, offsets, strict=True))
        else:
            table.remove(keys(users))
            for user in users:
                expected.pop(user, None)
        assert len(table) == len(expected)
        assert table.find(keys([*range(USERS)])).tolist() == [expected.get(user, NOT_EVICTED) for user in range(USERS)]


@pytest.mark.parametrize("offset", [0, 1, (1 << 47) - 1])
def test_any_offset_is_kept(offset: int) -> None:
    table = EvictedUsers()
    table.add(keys([1]), np.array([offset]))
    assert table.find(keys([1])).tolist() == [offset]


def test_a_million_evicted_users_take_at_most_29_bytes_each_and_none_once_they_returned() -> None:
    table, n = EvictedUsers(), 1_000_000
    hashes = np.random.default_rng(0).integers(-(1 << 63), (1 << 63) - 1, n, np.int64)
    users = UserKeys(hashes, np.zeros(n, np.uint16))
    for start in range(0, n, 20_000):
        part = slice(start, start + 20_000)
        table.add(UserKeys(*(column[part] for column in users)), np.arange(n)[part])
        assert table.nbytes <= len(table) * MAX_BYTES_PER_USER
    assert np.array_equal(table.find(users), np.arange(n))
    table.remove(users)
    assert (len(table), table.nbytes) == (0, 1024)
