"""The slot index, against a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.ranking.user_state.slot_index import NO_SLOT, SlotIndex, SlotKeys, UserKeys

USERS, PARTITIONS, ROOM = 12, 2, 24
STEPS = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, PARTITIONS - 1)), max_size=200)


@settings(deadline=None)
@given(STEPS)
def test_the_index_finds_what_a_dictionary_finds_after_insertions_and_removals(
    steps: list[tuple[int, int]],
) -> None:
    """A step inserts a user who is not in the index, and removes one who is. Hashes collide in their low bits, and two
    users each in all bits: only the check tells them apart."""
    hashed = [(user % 3) + (user // 3 % 2 << 40) for user in range(USERS)]
    checks = [user // 6 for user in range(USERS)]
    table, keys = (
        SlotIndex(ROOM),
        SlotKeys(np.zeros(ROOM, np.int64), np.zeros(ROOM, np.uint16), np.full(ROOM, -1, np.int32)),
    )
    slots: dict[tuple[int, int], int] = {}
    for user, partition in steps:
        if (user, partition) in slots:
            slot = slots.pop((user, partition))
            table.remove(np.array([slot]), keys)
        else:
            slot = min(set(range(ROOM)) - set(slots.values()))
            slots[user, partition] = slot
            keys.user[slot], keys.check[slot], keys.partition[slot] = hashed[user], checks[user], partition
            table.insert(np.array([slot]), keys)
        everyone = [(user, partition) for user in range(USERS) for partition in range(PARTITIONS)]
        found = table.find(
            UserKeys(
                np.array([hashed[user] for user, _ in everyone]),
                np.array([checks[user] for user, _ in everyone], np.uint16),
            ),
            np.array([partition for _, partition in everyone], np.int32),
            keys,
        )
        assert found.tolist() == [slots.get(user_and_partition, NO_SLOT) for user_and_partition in everyone]
