from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from anabranch.co_visit.changed_items import ChangedItems
from consumers.neighbours.waiting_rows import CHANGED_ROWS, REST_S, SWEPT_ROWS, WaitingRows


def changed(otherwise: Iterable[int] = (), by_new: Iterable[int] = ()) -> ChangedItems:
    return ChangedItems(np.array(list(by_new), np.int64), np.array(list(otherwise), np.int64))


def test_the_items_that_wait_for_longest_are_taken_first() -> None:
    waiting = WaitingRows()
    waiting.add(changed(range(5_000, 5_000 + CHANGED_ROWS)), now_s=1.0)
    waiting.add(changed([1, 2, 5_000]), now_s=2.0)
    assert waiting.age_s(now_s=4.0) == 3.0
    assert waiting.take(0, now_s=4.0).tolist() == list(range(5_000, 5_000 + CHANGED_ROWS))
    assert (len(waiting), waiting.age_s(now_s=4.0)) == (2, 2.0)
    assert waiting.take(0, now_s=4.0).tolist() == [1, 2]
    assert (len(waiting), waiting.age_s(now_s=4.0)) == (0, 0.0)


def test_items_that_new_ones_changed_go_before_the_others() -> None:
    waiting = WaitingRows()
    waiting.add(changed(range(2 * CHANGED_ROWS)), now_s=1.0)
    waiting.add(changed(by_new=[5_000, 2 * CHANGED_ROWS - 1]), now_s=2.0)
    assert waiting.take(0, now_s=2.0).tolist() == [*range(CHANGED_ROWS - 2), 2 * CHANGED_ROWS - 1, 5_000]
    assert len(waiting) == CHANGED_ROWS + 1


def test_what_is_taken_in_turn_waits_by_time_alone() -> None:
    waiting = WaitingRows()
    waiting.add(changed(range(CHANGED_ROWS)).in_turn, now_s=1.0)
    waiting.add(changed([7_000], by_new=[5_000]).in_turn, now_s=2.0)
    assert waiting.take(0, now_s=2.0).tolist() == list(range(CHANGED_ROWS))
    assert waiting.take(0, now_s=2.0).tolist() == [5_000, 7_000]


def test_an_item_is_looked_at_once_in_a_while_and_keeps_waiting_meanwhile() -> None:
    waiting = WaitingRows()
    for now_s, taken in [(1.0, [7]), (1.0 + REST_S / 2, []), (1.0 + REST_S, [7])]:
        waiting.add(changed([7]), now_s)
        assert waiting.take(0, now_s).tolist() == taken
    assert len(waiting) == 0


def test_items_that_were_put_back_are_taken_again() -> None:
    waiting = WaitingRows()
    waiting.add(changed([3, 4]), now_s=1.0)
    waiting.put_back(waiting.take(0, now_s=1.0), now_s=1.0)
    assert waiting.take(0, now_s=1.0 + REST_S).tolist() == [3, 4]


def test_every_item_is_looked_at_in_turn_without_a_change() -> None:
    waiting, items = WaitingRows(), 3 * SWEPT_ROWS - 10
    turns = [waiting.take(items, now_s=0.0).tolist() for _ in range(3)]
    assert [item for turn in turns for item in turn] == list(range(items))
    assert waiting.take(items, now_s=0.0).tolist() == turns[0]
