from __future__ import annotations

import itertools

import numpy as np
import pytest

from producers.completejourney import SPACING_MS, catalogue, load, purchases


def test_events_are_in_order_of_time_and_every_id_is_once() -> None:
    events = list(load(random_seed=1, weeks=(1, 2)))
    assert len(events) == 35_176
    assert all(event.ts <= following.ts for event, following in itertools.pairwise(events))
    assert len({event.event_id for event in events}) == len(events)
    assert {event.type for event in events} == {"purchase"}


def test_a_basket_is_shuffled_and_its_items_are_seconds_apart() -> None:
    baskets = purchases(random_seed=1, weeks=(1, 4))
    order = np.lexsort((baskets.ts, baskets.session))
    same = np.diff(baskets.session[order]) == 0
    gaps = np.diff(baskets.ts[order])[same]
    assert gaps.min() >= SPACING_MS[0]
    assert gaps.max() < SPACING_MS[1]
    ascending = (np.diff(baskets.item[order])[same] > 0).mean()
    assert 0.49 < ascending < 0.51


def test_the_baskets_of_a_household_never_interleave() -> None:
    baskets = purchases(random_seed=1)
    in_user_order = baskets.session[np.lexsort((baskets.ts, baskets.user))]
    assert (np.diff(in_user_order, prepend=-1) != 0).sum() == len(np.unique(baskets.session)) == 155_848


def test_the_seed_decides_the_order_and_nothing_else() -> None:
    first, again, other = (purchases(random_seed, (1, 2)) for random_seed in (1, 1, 2))
    np.testing.assert_array_equal(first.item, again.item)
    np.testing.assert_array_equal(first.ts, again.ts)
    assert not np.array_equal(first.item, other.item)
    np.testing.assert_array_equal(np.bincount(first.item), np.bincount(other.item))


def test_weeks_loaded_apart_are_the_weeks_loaded_together() -> None:
    together, first, second = (purchases(1, weeks) for weeks in ((3, 4), (3, 3), (4, 4)))
    np.testing.assert_array_equal(together.ts, np.concatenate([first.ts, second.ts]))
    np.testing.assert_array_equal(together.item, np.concatenate([first.item, second.item]))


@pytest.mark.parametrize("weeks", [(0, 3), (4, 3), (1, 54)])
def test_weeks_outside_the_year_are_refused(weeks: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="weeks must lie in"):
        purchases(1, weeks)


def test_the_catalogue_titles_every_product_and_lacks_a_few_that_were_bought() -> None:
    items = {item.item_id: item for item in catalogue()}
    assert len(items) == 68_492
    assert all(item.title and item.category for item in items.values())
    ice = items["25671"]
    assert (ice.title, ice.category, ice.description) == ("ICE - CRUSHED/CUBED", ["GROCERY", "FRZN ICE"], "22 LB")
    bought = purchases(1)
    assert len(set(bought.item_ids) - set(items)) == 17
