from __future__ import annotations

from consumers.neighbours.waiting_rows import CHANGED_ROWS, SWEPT_ROWS, WaitingRows


def test_the_items_that_wait_for_longest_are_taken_first() -> None:
    waiting = WaitingRows()
    waiting.add(range(5_000, 5_000 + CHANGED_ROWS), now_s=1.0)
    waiting.add([1, 2, 5_000], now_s=2.0)
    assert waiting.age_s(now_s=4.0) == 3.0
    assert waiting.take(known_items=0).tolist() == list(range(5_000, 5_000 + CHANGED_ROWS))
    assert (len(waiting), waiting.age_s(now_s=4.0)) == (2, 2.0)
    assert waiting.take(known_items=0).tolist() == [1, 2]
    assert (len(waiting), waiting.age_s(now_s=4.0)) == (0, 0.0)


def test_every_item_is_looked_at_in_turn_without_a_change() -> None:
    waiting, items = WaitingRows(), 3 * SWEPT_ROWS - 10
    turns = [waiting.take(items).tolist() for _ in range(3)]
    assert [item for turn in turns for item in turn] == list(range(items))
    assert waiting.take(items).tolist() == turns[0]
