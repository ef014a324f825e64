from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.ranking.event_batch import BatchColumns
from anabranch.ranking.user_state.session import SESSION_GAP_MS
from anabranch.ranking.user_state.store import UserStates
from models.data.event_log import NONE
from models.data.history import Histories
from tests.support.layouts import LAYOUT

STEPS = st.tuples(
    st.sampled_from([NONE, *range(8)]),
    st.sampled_from([0, 1_000, SESSION_GAP_MS, SESSION_GAP_MS + 1, -5_000]),
    st.sampled_from([NONE, 1, 2]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=100))
def test_history_and_session_equal_the_rankers(steps: list[tuple[int, int, int]]) -> None:
    states = UserStates(LAYOUT, dims=1, state_dims=1)
    slots = states.slots(["ann"])
    history, ts = Histories(LAYOUT.history).get(0), 10**9
    for item, pause, session in steps:
        ts += pause
        history.enter(item, ts, session)
        events = BatchColumns(
            slots=slots,
            items=np.array([item], np.int32),
            types=np.zeros(1, np.uint8),
            ts=np.array([ts]),
            sessions=np.array([session + 1], np.uint64),
            keys=np.zeros(1, np.uint64),
        )
        states.apply_events(events, duplicate=np.zeros(1, np.bool_), snapshot_at=np.empty(0, np.int64))
        (items,) = states.recent_items(slots, states.layout.history)
        assert list(reversed(history.items)) == [row for row in items.tolist() if row >= 0]
        assert history.session_items() == set(items[: states.columns.session_length[0]].tolist())


def test_a_search_begins_a_session_without_an_item() -> None:
    history = Histories(64).get(0)
    history.enter(4, ts=0, session=1)
    history.enter(NONE, ts=1, session=2)
    assert history.session_items() == set()
    history.enter(5, ts=2, session=2)
    assert history.session_items() == {5}
    assert list(history.items) == [4, 5]
