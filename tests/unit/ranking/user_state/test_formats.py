"""A state that is written in the format before the newest: for the version before this one, and for this one again."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest

from anabranch import messages
from anabranch.messages import NEWEST_STATE_FORMAT, SavedState, UserState, UserStateV1, encode_binary
from anabranch.ranking.user_state.formats import format_of, in_format, upgraded
from anabranch.settings import Settings
from tests.unit.ranking.user_state.test_codec import LAYOUT, USERS, Process, events

HALF_LIFE_S = LAYOUT.half_life_s
ADDED_SINCE = {
    "explored": 2,
    "placement": "discover",
    "slates": {"again": bytes(8)},
    "shown_items": bytes(8),
    "shown_counts": bytes(1),
    "shown_s": bytes(4),
    "disliked_items": bytes(8),
}
"""Fields that both formats got after their samples were written, in their order, with values that are no defaults."""


@pytest.fixture
def states(tmp_path: Path) -> list[UserState]:
    """Users with items in the history, items that left it, and items in both."""
    process = Process(tmp_path / "release")
    process.rank(events(150))
    saved = [messages.user_states.decode(payload) for payload in process.save(*USERS)]
    return [state for state in saved if isinstance(state, UserState)]


def in_first_format(state: UserState) -> UserStateV1:
    """What is on the topic, decoded."""
    read = messages.user_states.decode(encode_binary(in_format(state, 1, HALF_LIFE_S)))
    assert isinstance(read, UserStateV1)
    return read


def test_a_state_in_the_format_before_is_the_same_when_it_is_loaded_again(states: list[UserState]) -> None:
    assert len(states) == len(USERS)
    for state in states:
        assert encode_binary(upgraded(in_first_format(state), HALF_LIFE_S)) == encode_binary(state)


def test_the_version_before_reads_it_too_for_it_passes_over_what_it_does_not_know(states: list[UserState]) -> None:
    """Its struct is the one that wrote the sample: the fields before `long_term`."""
    sample = msgspec.msgpack.decode(Path(__file__).with_name("saved_states").joinpath("v1.msgpack").read_bytes())
    for state in states:
        written = msgspec.msgpack.decode(encode_binary(in_format(state, 1, HALF_LIFE_S)))
        assert [type(value) for value in written[: len(sample)]] == [type(value) for value in sample]
        assert len(written) == len(sample) + 1 + len(ADDED_SINCE)
        without = messages.user_states.decode(msgspec.msgpack.encode(written[: len(sample)]))
        defaults = {name: _default(UserStateV1, name) for name in ADDED_SINCE}
        assert without == msgspec.structs.replace(in_first_format(state), long_term=None, **defaults)


def _default(kind: type[msgspec.Struct], name: str) -> object:
    [field] = [field for field in msgspec.structs.fields(kind) if field.name == name]
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def test_what_was_added_is_at_the_end_of_both_formats_where_the_version_before_passes_over_it(
    states: list[UserState],
) -> None:
    samples = Path(__file__).with_name("saved_states")
    for state in states:
        full = msgspec.structs.replace(state, **ADDED_SINCE)
        assert upgraded(in_first_format(full), HALF_LIFE_S) == full
        for version, newer in ((1, 1 + len(ADDED_SINCE)), (2, len(ADDED_SINCE))):
            sample = msgspec.msgpack.decode((samples / f"v{version}.msgpack").read_bytes())
            written = msgspec.msgpack.decode(encode_binary(in_format(full, version, HALF_LIFE_S)))
            assert written[-len(ADDED_SINCE) :] == list(ADDED_SINCE.values())
            assert [type(value) for value in written[:-newer]] == [type(value) for value in sample]


def test_for_the_version_before_the_long_term_items_hold_the_history(states: list[UserState]) -> None:
    both = 0
    for state in states:
        first = in_first_format(state)
        own = dict(zip(np.frombuffer(state.own_items, "<u8"), np.frombuffer(state.own_counts, "<f4"), strict=True))
        history = np.frombuffer(state.history_items, "<u8")
        items = np.frombuffer(first.own_items, "<u8")
        for item, count in zip(items, np.frombuffer(first.own_counts, "<f4"), strict=True):
            assert count == own.get(item, 0) + (history == item).sum()
        assert set(items) == set(own) | set(history)
        both += len(set(own) & set(history))
    assert both > 0


def test_from_what_the_version_before_knows_the_rest_is_computed(states: list[UserState]) -> None:
    """As from its own states: what left the history, with its decayed count, apart from rounding."""
    for state in states:
        again = upgraded(msgspec.structs.replace(in_first_format(state), long_term=None), HALF_LIFE_S)
        order, order_again = (np.argsort(np.frombuffer(one.own_items, "<u8")) for one in (state, again))
        for name, dtype in {"own_items": "<u8", "own_counts": "<f4", "own_first": "<u4"}.items():
            one, other = (np.frombuffer(getattr(saved, name), dtype) for saved in (state, again))
            assert np.array_equal(one[order], other[order_again]), name
        logs, logs_again = (np.frombuffer(saved.own_logs, "<f4") for saved in (state, again))
        np.testing.assert_allclose(logs[order], logs_again[order_again], atol=1e-4)
        same = ("next_offset", "recurrent", "vector", "history_items", "history_types", "history_s", "slate", "seen")
        assert [getattr(state, name) for name in same] == [getattr(again, name) for name in same]


def test_a_blank_state_has_both_formats(tmp_path: Path) -> None:
    [payload] = Process(tmp_path / "release").save("nobody")
    state = messages.user_states.decode(payload)
    assert isinstance(state, UserState)
    assert upgraded(in_first_format(state), HALF_LIFE_S) == state


def test_the_newest_format_is_the_one_with_the_highest_number_and_the_setting_knows_the_one_before() -> None:
    tags = {kind.__struct_config__.tag for kind in get_args(SavedState)}
    assert max(tags) == NEWEST_STATE_FORMAT
    assert tags == {NEWEST_STATE_FORMAT - 1, NEWEST_STATE_FORMAT}
    for version in tags:
        assert msgspec.convert({"state_format": version}, Settings).state_format == version
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"state_format": NEWEST_STATE_FORMAT + 1}, Settings)


def test_the_format_is_read_from_whatever_is_there(states: list[UserState]) -> None:
    assert format_of(encode_binary(states[0])) == 2
    assert format_of(msgspec.msgpack.encode([7, "later"])) == 7
    for payload in (
        b"",
        b"junk",
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode(["2"]),
        msgspec.msgpack.encode({}),
    ):
        assert format_of(payload) is None
