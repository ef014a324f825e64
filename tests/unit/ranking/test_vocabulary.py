"""Items with a row and unnamed ones: what is kept of each, and two ids of one hash."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.ranking import vocabulary
from anabranch.ranking.unnamed_items import COLLIDES, FIRST_UNNAMED, NOT_FOUND, UnnamedItems
from anabranch.ranking.vocabulary import ItemIdCollision, ItemVocabulary

MAX_BYTES_PER_UNNAMED_ITEM = 36


def numbers(*indices: int) -> list[int]:
    return [FIRST_UNNAMED + index for index in indices]


def unchecked(n: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.zeros(n, np.uint32)


@pytest.fixture
def same_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that begin with the same letter have the same stable hash."""
    monkeypatch.setattr(vocabulary, "stable_hash", lambda text: 1 + ord(text[0]))


def test_an_item_of_events_alone_has_a_number_beyond_all_rows_and_no_id() -> None:
    items = ItemVocabulary()
    assert items.rows(["a", "b"]).tolist() == [0, 1]
    assert items.mentioned(["a", None, "x", "y", "x"]).tolist() == [0, -1, *numbers(0, 1, 0)]
    assert (len(items), items.unnamed) == (2, 2)
    assert items.label(FIRST_UNNAMED) == f"#{vocabulary.stable_hash('x'):016x}"
    with pytest.raises(LookupError, match="only its hash is kept"):
        items.id(FIRST_UNNAMED)


def test_rows_and_numbers_have_the_hashes_of_their_ids() -> None:
    items, ids = ItemVocabulary(), ["a", "x", "b", "y"]
    items.rows(["a", "b"])
    rows = items.mentioned([*ids, None]).reshape(5, 1)
    assert items.hashes(rows)[:, 0].tolist() == [*map(vocabulary.stable_hash, ids), 0]
    assert np.array_equal(items.rows_of_hashes(items.hashes(rows)[:, 0]), rows[:, 0])


def test_an_unnamed_item_that_is_given_a_row_keeps_its_number_until_it_is_settled() -> None:
    items = ItemVocabulary()
    before = items.mentioned(["x", "y"])
    row = items.row("x")
    assert (row, items.row("x")) == (0, 0)
    assert items.is_unsettled
    assert items.mentioned(["x", "y"]).tolist() == before.tolist(), "user states have the number"
    settled = items.settle()
    assert (settled.numbers.tolist(), settled.rows.tolist()) == ([before[0]], [row])
    assert items.mentioned(["x", "y"]).tolist() == [row, before[1]]
    assert items.rows_of_hashes(items.hashes(np.array([row]))).tolist() == [row]
    assert not items.is_unsettled


def test_a_sweep_forgets_the_items_in_no_user_state_and_uses_their_numbers_again() -> None:
    items = ItemVocabulary()
    items.mentioned(["w", "x", "y", "z"])
    hashes = items.hashes(np.array(numbers(1, 2), np.int32))
    items.sweep(np.array([False, True, True, False]))
    assert items.unnamed == 2
    assert items.rows_of_hashes(hashes).tolist() == numbers(1, 2), "items in use keep their numbers"
    assert items.mentioned(["new", "newer"]).tolist() == numbers(0, 3)


def test_sweeps_become_rarer_as_more_items_are_in_use() -> None:
    items, at_least = ItemVocabulary(), vocabulary.SWEEP_AT_LEAST
    items.mentioned(f"{n}" for n in range(at_least - 1))
    assert not items.is_sweep_due
    items.mentioned(["one more"])
    assert items.is_sweep_due
    items.sweep(np.ones(at_least, np.bool_))
    items.mentioned(f"later {n}" for n in range(at_least - 1))
    assert not items.is_sweep_due, "twice as many as were kept"


@pytest.mark.usefixtures("same_hash")
def test_two_catalogue_items_of_one_hash_are_refused_with_both_ids_and_the_remedy() -> None:
    items = ItemVocabulary()
    items.row("apple")
    with pytest.raises(ItemIdCollision, match=r"item 'avocado' .* item 'apple'\. Give one of the two another id"):
        items.row("avocado")
    assert not items.accepts("avocado")
    assert [(one.refused, one.kept) for one in items.take_collisions()] == [("avocado", "apple")]
    assert items.take_collisions() == []
    assert items.row("apple") == 0


@pytest.mark.usefixtures("same_hash")
def test_an_event_about_an_item_with_the_hash_of_another_one_is_about_no_item() -> None:
    items = ItemVocabulary()
    items.row("apple")
    assert items.mentioned(["avocado", "apple", "banana", "blueberry", "banana"]).tolist() == [
        *(-1, 0),
        *(FIRST_UNNAMED, -1, FIRST_UNNAMED),
    ]
    assert [(one.refused, one.kept) for one in items.take_collisions()] == [("avocado", "apple"), ("blueberry", None)]


@pytest.mark.usefixtures("same_hash")
def test_a_catalogue_item_with_the_hash_of_an_item_in_user_states_is_refused() -> None:
    items = ItemVocabulary()
    items.mentioned(["apple"])
    assert not items.accepts("avocado")
    assert items.accepts("apple")
    items.settle()
    assert items.mentioned(["apple"]).tolist() == [items.row("apple")]


@pytest.mark.usefixtures("same_hash")
def test_an_item_known_from_a_saved_state_is_the_one_whose_id_comes_first() -> None:
    items = ItemVocabulary()
    [number] = items.rows_of_hashes(np.array([vocabulary.stable_hash("apple")], np.uint64))
    row = items.row("apple")
    assert items.mentioned(["avocado"]).tolist() == [-1], "the number has been apple's since it was given a row"
    assert items.settle().numbers.tolist() == [number]
    assert items.mentioned(["apple"]).tolist() == [row]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["mention", "name", "settle", "sweep"]), st.integers(0, 40)), max_size=60))
def test_user_states_always_contain_the_items_that_they_were_given(steps: list[tuple[str, int]]) -> None:
    """`states` stands for user states, of which the item is dropped that came nine items ago."""
    items, states = ItemVocabulary(), list[tuple[str, int]]()
    for step, n in steps:
        if step == "mention":
            states = [*states, (f"{n}", int(items.mentioned([f"{n}"])[0]))][-9:]
        elif step == "name":
            items.row(f"{n}")
        elif step == "settle":
            new = dict(zip(*(column.tolist() for column in items.settle()), strict=True))
            states = [(item_id, new.get(row, row)) for item_id, row in states]
        else:
            in_use = np.zeros(items.unnamed_end - FIRST_UNNAMED, np.bool_)
            in_use[[row - FIRST_UNNAMED for _, row in states if row >= FIRST_UNNAMED]] = True
            items.sweep(in_use)
        for item_id, row in states:
            assert items.hashes(np.array([row]))[0] == vocabulary.stable_hash(item_id)
            assert items.mentioned([item_id]).tolist() == [row]


def test_a_million_unnamed_items_take_at_most_36_bytes_each_and_none_after_a_sweep() -> None:
    items, n = UnnamedItems(), 1_000_000
    hashes = np.random.default_rng(0).integers(1, 1 << 63, n, np.uint64)
    for chunk in np.array_split(hashes, 500):
        items.find_or_add(chunk, unchecked(len(chunk)))
        assert items.nbytes <= max(len(items) * MAX_BYTES_PER_UNNAMED_ITEM, 32_768)
    assert np.array_equal(items.find(hashes), FIRST_UNNAMED + np.arange(n))
    items.keep(np.arange(n) < 1000)
    assert items.nbytes <= 1024 * MAX_BYTES_PER_UNNAMED_ITEM
    assert (items.find(hashes[:2000]) == NOT_FOUND).sum() == 1000


def test_hashes_that_share_their_low_bits_do_not_compete_for_entries() -> None:
    """The stable hash has no key, so anybody can choose such ids: a table indexed by those bits would take minutes."""
    items, hashes = UnnamedItems(), (np.arange(1, 200_001, dtype=np.uint64) << np.uint64(20)) | np.uint64(7)
    assert len(set(items.find_or_add(hashes, unchecked(len(hashes))).tolist())) == len(hashes)


def test_the_check_of_an_item_counts_from_the_first_id_that_it_is_known_by() -> None:
    items, one = UnnamedItems(), np.array([9], np.uint64)
    assert items.find_or_add(one, np.array([0], np.uint32)).tolist() == numbers(0)
    assert items.find_or_add(one, np.array([5], np.uint32)).tolist() == numbers(0)
    assert items.find_or_add(one, np.array([6], np.uint32)).tolist() == [COLLIDES]
    assert items.find_or_add(one, np.array([0], np.uint32)).tolist() == numbers(0)
