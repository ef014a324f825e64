"""A state that was saved and loaded is the state it was, to the last bit."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anabranch import messages
from anabranch.kafka.topics import ENVELOPE_BYTES, OWN_BYTES
from anabranch.messages import Event, UserState, UserStateV1, encode_binary
from anabranch.placements import AGAIN, DISCOVER, FOR_YOU, Placement, Rotation
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline import rank, user_update
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.codec import load, save
from anabranch.ranking.user_state.columns import NOT_ENCODED, UserColumns
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import StateSnapshot, UserStates
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers, stable_hash
from anabranch.settings import Settings
from anabranch.settings_loader import FIELDS
from tests.support.layouts import LAYOUT as DEFAULT_LAYOUT
from tests.support.releases import DIMS, live_release, write_release

CATALOGUE = [f"item {n}" for n in range(60)]
LAYOUT = DEFAULT_LAYOUT._replace(
    history=8, long_term_items=6, slate=5, recent_events=4, impression_items=6, disliked_items=3
)
USERS = ("ann", "bob", "cat")
SAMPLES = Path(__file__).with_name("saved_states")


class Process:
    """What one process has in memory: ids and releases have other numbers in every process."""

    def __init__(
        self,
        folder: Path,
        layout: StateLayout = LAYOUT,
        others_first: int = 0,
        placements: tuple[Placement, ...] = (FOR_YOU,),
    ) -> None:
        if not folder.exists():
            write_release(folder, "r1", CATALOGUE)
        self.item_ids, self.releases = ItemVocabulary(), ReleaseNumbers()
        self.item_ids.rows(f"somebody else's {n}" for n in range(others_first))
        for n in range(others_first):
            self.releases.number(f"r{-n}")
        live = live_release(folder, self.item_ids, CATALOGUE)
        self.live = replace(live, number=self.releases.number("r1"))
        self.policy = Policy(placements=placements)
        self.states = UserStates(layout._replace(placements=self.policy.placement_names), DIMS, DIMS)

    def rank(self, events: list[Event]) -> rank.RankingResult:
        slots = self.states.slots(event.user_id for event in events)
        batch = EventBatch.from_events(events, slots, self.item_ids)
        ranked = rank.rank(self.live, CoVisitRows(), self.states, batch, self.policy)
        self.states.columns.next_offset[slots] = np.arange(len(events)) + 1
        return ranked

    def save(self, *users: str) -> list[bytes]:
        slots = self.states.slots(users)
        return [encode_binary(one) for one in save(self.states, slots, self.item_ids, self.releases)]

    def slates(self, user: str) -> dict[str, list[str]]:
        """What the user was shown last, by placement."""
        layout, slate = self.states.layout, self.states.columns.slate[self.states.slot_of(user)]
        return {
            name: [self.item_ids.id(row) for row in shown.tolist() if row >= 0]
            for name, shown in zip(layout.placements, slate.reshape(-1, layout.slate), strict=True)
        }

    def load(self, payloads: list[bytes], *users: str) -> None:
        saved = [messages.user_states.decode(payload) for payload in payloads]
        load(self.states, self.states.slots(users), saved, self.item_ids, self.releases)


def events(count: int, seed: int = 0) -> list[Event]:
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        user, item = USERS[rng.integers(len(USERS))], CATALOGUE[rng.integers(len(CATALOGUE))]
        common = {"event_id": f"{seed}-{n}", "user_id": user, "ts": 1_000 + n * 60_000}
        if n % 7 == 3:
            made.append(Event(type="search", query=item, **common))
        elif n % 7 == 5:
            made.append(Event(type="view", item_id=f"nobody described {n}", session_id=f"s{n // 9}", **common))
        elif n % 7 == 2:
            made.append(Event(type="dislike", item_id=item, **common))
        elif n % 7 == 6:
            items = (item, *rng.choice(CATALOGUE, 2, replace=False).tolist(), f"nobody described {n}")
            made.append(Event(type="impression", shown=items, **common))
        else:
            made.append(Event(type="purchase", item_id=item, session_id=f"s{n // 9}", **common))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r1"


@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_loaded_state_ranks_like_the_saved_one(folder: Path, count: int) -> None:
    one, other = Process(folder), Process(folder, others_first=7)
    one.rank(events(count))
    other.load(one.save(*USERS), *USERS)
    ahead = events(40, seed=1)
    ranked, again = one.rank(ahead), other.rank(ahead)
    assert one.save(*USERS) == other.save(*USERS)
    assert np.array_equal(ranked.feedback.rank, again.feedback.rank)
    assert np.array_equal(ranked.score, again.score)
    for row, same in zip(ranked.slate.ravel(), again.slate.ravel(), strict=True):
        assert one.item_ids.id(row) == other.item_ids.id(same)


def test_slates_are_kept_under_the_names_of_their_placements(folder: Path) -> None:
    one = Process(folder, placements=(FOR_YOU, AGAIN, DISCOVER))
    other = Process(folder, placements=(DISCOVER, Placement(name="new"), AGAIN))
    one.rank(events(40))
    other.load(one.save(*USERS), *USERS)
    for user in USERS:
        shown = one.slates(user)
        assert shown["again"], "the user had been shown something again"
        assert other.slates(user) == {"discover": shown["discover"], "new": [], "again": shown["again"]}


def test_saving_a_loaded_state_gives_the_same_bytes(folder: Path) -> None:
    one, other = Process(folder), Process(folder, others_first=3)
    one.rank(events(50))
    saved = one.save(*USERS)
    other.load(saved, *USERS)
    assert other.save(*USERS) == saved


def test_a_blank_state_is_saved_and_loaded(folder: Path) -> None:
    one, other = Process(folder), Process(folder)
    saved = one.save("nobody")
    other.load(saved, "nobody")
    for name in UserColumns._fields:
        a, b = (getattr(process.states.columns, name)[0] for process in (one, other))
        assert np.array_equal(a, b), name


def test_loading_replaces_the_state_in_the_slot(folder: Path) -> None:
    one, other = Process(folder), Process(folder)
    one.rank(events(2))
    other.rank(events(40, seed=5))
    other.load(one.save("ann"), "ann")
    assert other.save("ann") == one.save("ann")


def test_a_smaller_layout_keeps_the_newest_history_and_the_strongest_long_term_items(folder: Path) -> None:
    one = Process(folder)
    one.rank(events(60))
    small = Process(
        folder,
        DEFAULT_LAYOUT._replace(
            history=4, long_term_items=2, slate=3, recent_events=2, impression_items=2, disliked_items=1
        ),
    )
    small.load(one.save("ann"), "ann")
    whole, kept = one.states.slots(["ann"]), small.states.slots(["ann"])

    def recent(process: Process, length: int) -> list[str]:
        rows = process.states.recent_items(process.states.slots(["ann"]), length)[0]
        return [process.item_ids.label(row) for row in rows.tolist()]

    assert recent(small, 4) == recent(one, 4)
    logs = one.states.snapshot(whole).lists.long_term.log2_decayed_count[0][
        : one.states.columns.long_term_size[whole[0]]
    ]
    assert len(logs) > 2
    assert np.array_equal(
        np.sort(small.states.snapshot(kept).lists.long_term.log2_decayed_count[0]), np.sort(logs)[-2:]
    )
    assert small.states.columns.session_length[kept[0]] <= 4
    shown, shown_whole = small.states.columns.shown_s[kept[0]], one.states.columns.shown_s[whole[0]]
    newest = np.sort(np.argsort(-shown_whole.astype(np.int64), kind="stable")[:2])
    assert shown.tolist() == shown_whole[newest].tolist()
    counts = [process.states.columns.shown_count[slot] for process, slot in ((one, whole[0]), (small, kept[0]))]
    assert counts[1].tolist() == counts[0][newest].tolist()
    assert shown.all()
    disliked = [
        [process.item_ids.label(row) for row in process.states.columns.disliked_item[slot] if row >= 0]
        for process, slot in ((one, whole[0]), (small, kept[0]))
    ]
    assert disliked[1] == disliked[0][-1:]
    assert len(disliked[0]) > 1


def test_a_state_with_vectors_of_other_lengths_is_encoded_again_from_its_history(folder: Path) -> None:
    one, other = Process(folder), Process(folder)
    one.rank(events(20))
    payload = one.save("ann")[0]
    saved = msgspec.structs.replace(messages.user_states.decode(payload), vector=b"\0" * 2)
    load(other.states, other.states.slots(["ann"]), [saved], other.item_ids, other.releases)
    assert other.states.columns.encoded_by[0] == NOT_ENCODED
    user_update.reencode_stale_users(other.live, other.states, other.states.slots(["ann"]))
    assert np.abs(other.states.columns.vector[0]).sum() > 0


def test_an_item_of_a_saved_state_gets_its_name_from_the_first_message_that_has_it(folder: Path) -> None:
    one, other = Process(folder), Process(folder)
    one.item_ids.rows(["named here", "nowhere"])
    item_ids = [CATALOGUE[3], "named here", "nowhere"]
    actions = [event for event in events(20) if event.is_action]
    one.rank([msgspec.structs.replace(event, item_id=item_ids[n % 3]) for n, event in enumerate(actions)])
    payloads = one.save("ann")
    other.load(payloads, "ann")
    assert other.item_ids.unnamed == 2
    other.item_ids.row("named here")
    other.states.renumber_items(*other.item_ids.settle())
    labels = [other.item_ids.label(row) for row in other.states.recent_items(np.array([0]), 8)[0].tolist()]
    assert set(labels) == {CATALOGUE[3], "named here", f"#{stable_hash('nowhere'):016x}"}
    assert other.save("ann") == payloads


def test_what_was_shown_keeps_its_places_on_which_it_depends_what_is_replaced_first(folder: Path) -> None:
    one, other = Process(folder), Process(folder, others_first=7)
    common = {"user_id": "ann", "ts": 60_000}
    one.rank([Event(event_id="i", type="impression", shown=(*CATALOGUE[:2], "nobody described"), **common)])
    one.rank([Event(event_id="v", type="view", item_id=CATALOGUE[0], **common)])
    other.load(one.save("ann"), "ann")
    shown = other.states.columns.shown_item[0]
    assert [other.item_ids.label(row) if row >= 0 else None for row in shown[:4]] == [
        None,
        CATALOGUE[1],
        f"#{stable_hash('nobody described'):016x}",
        None,
    ]
    assert other.states.columns.shown_count[0, :4].tolist() == [0, 1, 1, 0]
    assert other.states.columns.shown_s[0, :4].tolist() == [0, 60, 60, 0]


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.msgpack")), ids=lambda path: path.stem)
def test_states_saved_by_every_earlier_version_are_read(sample: Path) -> None:
    """The bytes are as that version wrote them; a new version adds a sample and changes none."""
    saved = messages.user_states.decode(sample.read_bytes())
    expected = msgspec.json.decode(sample.with_suffix(".json").read_bytes())
    assert isinstance(saved, UserState | UserStateV1)
    states, item_ids, releases = UserStates(DEFAULT_LAYOUT, DIMS, DIMS), ItemVocabulary(), ReleaseNumbers()
    item_ids.rows(expected["items"])
    slots = states.slots(["ann"])
    load(states, slots, [saved], item_ids, releases)
    columns = states.columns
    assert [item_ids.label(row) for row in states.recent_items(slots, 64)[0].tolist() if row >= 0] == expected["recent"]
    assert own_counts(states, item_ids) == expected["own"]
    assert [item_ids.label(row) for row in columns.slate[0] if row >= 0] == expected["slate"]
    np.testing.assert_allclose(columns.vector[0], expected["vector"], rtol=1e-3)
    np.testing.assert_allclose(columns.recurrent[0], expected["recurrent"], rtol=1e-3)
    assert releases.id(int(columns.encoded_by[0])) == releases.id(int(columns.slate_release[0])) == "r1"
    assert columns.last_ts[0] == expected["last_ts"]
    assert columns.next_offset[0] == expected["next_offset"]
    assert columns.dedupe_count[0] == expected["seen"]
    assert columns.session_length[0] == expected["session_length"]


def own_counts(states: UserStates, item_ids: ItemVocabulary) -> dict[str, float]:
    """How often the first user had each item, in the history and before."""
    lists, size = states.snapshot(np.array([0])).lists, int(states.columns.long_term_size[0])
    counts = Counter(item_ids.label(row) for row in states.recent_items(np.array([0]), 64)[0].tolist() if row >= 0)
    for row, count in zip(
        lists.long_term.item[0, :size].tolist(), lists.long_term.event_count[0, :size].tolist(), strict=True
    ):
        counts[item_ids.label(row)] += count
    return dict(counts)


def test_there_is_a_sample_of_the_version_that_is_written() -> None:
    tag = UserState.__struct_config__.tag
    assert (SAMPLES / f"v{tag}.msgpack").exists()


def test_the_largest_state_that_the_settings_allow_fits_into_a_message() -> None:
    """With an id of 512 characters for each release, and vectors of 4,096 numbers."""
    largest = {
        name: int(re.findall(r"le=(\d+)", str(FIELDS[name]))[0])
        for name in ("history_length", "own_items", "slate_size", "dedupe_window", "impression_items", "disliked_items")
    }
    placements = tuple(Placement(name=f"{n}".rjust(32, "p"), rotation=Rotation()) for n in range(8))
    layout = StateLayout.from_settings(Settings(**largest, placements=placements))
    item_ids, releases = ItemVocabulary(), ReleaseNumbers()
    states = UserStates(layout, 4096, 4096, capacity=2)
    slots = states.slots(["ann"])
    columns, lists = states.snapshot(slots)
    columns.event_count[:] = columns.dedupe_count[:] = 1 << 40
    columns.long_term_size[:] = layout.long_term_items
    columns.encoded_by[:] = columns.slate_release[:] = releases.number("é" * 512)
    items = item_ids.mentioned(f"{n}" for n in range(5000))
    lists.history_item[:], lists.long_term.item[:] = items[: layout.history], items[: layout.long_term_items]
    columns.shown_item[:] = items[: layout.impression_items]
    columns.disliked_item[:] = items[: layout.disliked_items]
    columns.slate[:] = np.tile(items[: layout.slate], len(placements))
    states.overwrite(slots, StateSnapshot(columns, lists))
    [state] = save(states, slots, item_ids, releases)
    assert 600_000 < len(encode_binary(state)) < OWN_BYTES - ENVELOPE_BYTES
