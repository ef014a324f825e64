from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.ranking.user_state.session import SESSION_GAP_MS
from models.data.event_log import NONE, EventColumns, EventLog
from models.data.history import Histories
from models.data.sessions import Sessions


def log(user: list[int], ts: list[int], session: list[int]) -> EventLog:
    """Item numbers are 0, 1, 2, … in the given order."""
    n = len(user)
    ids = tuple(map(str, range(max(n, 9))))
    columns = (np.array(column, np.int64) for column in (user, range(n), [0] * n, ts, session))
    return EventLog.from_columns(EventColumns(*columns), user_ids=ids, item_ids=ids)


def test_sessions_are_numbered_in_the_order_in_which_they_end() -> None:
    sessions = Sessions.from_log(log(user=[4, 7, 7, 4], ts=[0, 1, 2, 3], session=[1, 1, 1, 1]))
    assert sessions.user.tolist() == [7, 4]
    assert sessions.end_ts.tolist() == [2, 3]
    assert sessions.item.tolist() == [1, 2, 0, 3]
    assert sessions.start.tolist() == [0, 2, 4]


def test_a_log_without_events_has_no_sessions() -> None:
    sessions = Sessions.from_log(log([], [], []))
    assert len(sessions) == 0
    assert sessions.start.tolist() == [0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([0, 1, SESSION_GAP_MS, SESSION_GAP_MS + 1]), st.integers(NONE, 1)),
        min_size=1,
        max_size=30,
    )
)
def test_sessions_end_as_in_the_users_history(events: list[tuple[int, int, int]]) -> None:
    user, pause, session = zip(*events, strict=True)
    ts = np.cumsum(pause).tolist()
    sessions = Sessions.from_log(log(list(user), ts, list(session)))
    lengths = []
    for user_number in (0, 1):
        history = Histories(64).get(0)
        for item, row in enumerate(np.flatnonzero(np.array(user) == user_number).tolist()):
            history.enter(item, ts[row], session[row])
            lengths += [1] if history.session_length == 1 else []
            lengths[-1] = history.session_length
    assert sorted(np.diff(sessions.start).tolist()) == sorted(lengths)
