from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.co_visit.bounded_rows import BoundedRows, empty_rows, find, insert, prune, room_of, scale, with_room

ROWS, MOST_ENTRIES = 4, 64


def add(rows: BoundedRows, row: int, key: int, count: float) -> BoundedRows:
    rows = with_room(rows, ROWS, room_of(2 * MOST_ENTRIES))
    entry = find(rows, row, key)
    if entry < 0:
        entry = insert(rows, row, key)
    rows.counts[entry] += count
    rows.bits[entry] |= 1 << key
    return rows


def content(rows: BoundedRows, row: int) -> dict[int, tuple[float, int]]:
    start = rows.start[row]
    entries = slice(start, start + rows.length[row])
    columns = (rows.keys[entries], rows.counts[entries], rows.bits[entries])
    return {key: (count, bits) for key, count, bits in zip(*(column.tolist() for column in columns), strict=True)}


STEPS = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, MOST_ENTRIES - 1), st.integers(1, 3)), max_size=300)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_a_row_has_the_sums_of_what_was_added_to_it(steps: list[tuple[int, int, int]]) -> None:
    rows, expected = empty_rows(), dict[tuple[int, int], float]()
    for row, key, count in steps:
        rows = add(rows, row, key, count)
        expected[row, key] = expected.get((row, key), 0) + count
    for row in range(ROWS if steps else 0):
        own = {key: (count, 1 << key) for (of, key), count in expected.items() if of == row}
        assert content(rows, row) == own


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=MOST_ENTRIES), st.integers(1, MOST_ENTRIES))
def test_pruning_keeps_the_largest_counts_and_of_equal_ones_the_lower_keys(counts: list[int], n: int) -> None:
    rows = empty_rows()
    for key, count in reversed(list(enumerate(counts))):
        rows = add(rows, 1, key, count)
    prune(rows, 1, n)
    strongest = sorted(range(len(counts)), key=lambda key: (-counts[key], key))[:n]
    assert content(rows, 1) == {key: (counts[key], 1 << key) for key in strongest}


def test_a_block_that_a_row_left_is_used_again() -> None:
    rows = empty_rows()
    for key in range(9):
        rows = add(rows, 0, key, 1)
    used = int(rows.used[0])
    rows = add(rows, 1, 5, 2)
    assert rows.used[0] == used
    assert content(rows, 1) == {5: (2, 1 << 5)}
    assert list(content(rows, 0)) == list(range(9))


def test_an_entry_whose_count_becomes_0_is_forgotten() -> None:
    rows = add(add(empty_rows(), 0, 3, 2.0**-600), 0, 4, 1.0)
    scale(rows, 2.0**-600)
    assert content(rows, 0) == {4: (2.0**-600, 1 << 4)}
