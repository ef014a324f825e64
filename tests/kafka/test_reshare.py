"""The retraining job with a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anabranch import messages
from anabranch.kafka import clients, release_topic
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, EventType, Item, ReleaseNotice
from anabranch.settings import Settings
from models.data.event_log import NotEnoughData
from models.experiments.choices import DataKind
from models.experiments.training_options import TrainingOptions
from models.retraining.job import JobConfig, RunResult, run_once
from models.retraining.windows import NotEnoughNewData, WindowLengths
from tests.kafka.world import ITEMS, World, purchases
from tests.support.text_models import write_text_model


@contextmanager
def no_bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    yield lambda n: None


def test_without_enough_new_events_for_the_gate_only_the_co_visit_table_is_published(
    settings: Settings, topics: Topics
) -> None:
    events = purchases(20, users=2)
    World(settings).publish(events)
    last_gated_ms = max(event.ts for event in events) + 1
    notice = ReleaseNotice(
        release="r1", status="rejected", ts=1, location="r1", manifest_sha256="", gate_from=0, gate_to=last_gated_ms
    )
    release_topic.announce(settings, notice)

    with pytest.raises(NotEnoughNewData):
        run_once(settings, JobConfig(), no_bar)

    rows = [messages.neighbours.decode(record.value) for record in clients.read_to_end(settings, [topics.neighbours])]
    assert {row.item_id for row in rows} == {event.item_id for event in events}
    assert read_release_notices(settings).newest == {"r1": notice}


# --- data that does not suffice ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text"), ["thing", *ITEMS])


def hours_of_views(users: int, item_id: str = "i{}") -> list[Event]:
    """Views and carts of three hours, by users in turn."""
    types: tuple[EventType, ...] = ("view", "view", "cart")
    return [
        Event(
            event_id=f"e{number}",
            user_id=f"u{number % users}",
            type=types[number % 3],
            ts=1_500_000_000_000 + number * 20_000,
            item_id=item_id.format(number * 7 % len(ITEMS)),
        )
        for number in range(540)
    ]


def reshare_sessions(settings: Settings, text_model: Path) -> RunResult:
    """As `anabranch reshare --once --kind sessions --order-days 0.02 --gate-days 0.02`."""
    options = TrainingOptions(DataKind.SESSIONS, threads=1, strategies="none", text_model=str(text_model))
    return run_once(settings, JobConfig(WindowLengths(0.02, 0.02), options.config()), no_bar)


def test_windows_of_half_an_hour_make_a_release_where_users_come_back(
    settings: Settings, topics: Topics, text_model: Path
) -> None:
    world = World(settings)
    world.publish_items([Item(item_id=item, title=f"thing {item}") for item in ITEMS])
    world.publish(hours_of_views(users=6))
    result = reshare_sessions(settings, text_model)
    window = result.candidate.measured["order_lists"]
    assert window > 0
    assert result.notice.gate_to is not None and result.notice.gate_from is not None
    assert result.notice.gate_to - result.notice.gate_from == 1_728_000


@pytest.mark.parametrize(
    ("events", "catalogue", "problem"),
    [
        (hours_of_views(users=540), ITEMS, "there is nothing to learn the order of candidates from"),
        (hours_of_views(users=6), [], "the catalogue has no items: publish them with `anabranch catalogue`"),
        (hours_of_views(users=6, item_id="{}.0"), ITEMS, "none of the .* events is about an item of the catalogue"),
        (hours_of_views(users=6)[:60], ITEMS, r"the events span 19\.7 minutes, and the newest"),
        ([], ITEMS, "there are no events to train on"),
    ],
    ids=["nobody comes back", "no catalogue", "ids that join with nothing", "twenty minutes", "no events"],
)
def test_too_little_for_a_release_is_an_error_that_leaves_nothing_behind(
    events: list[Event], catalogue: list[str], problem: str, settings: Settings, topics: Topics, text_model: Path
) -> None:
    world = World(settings)
    world.publish_items([Item(item_id=item, title=f"thing {item}") for item in catalogue])
    world.publish(events)
    with pytest.raises(NotEnoughData, match=problem):
        reshare_sessions(settings, text_model)
    assert not settings.releases_dir.exists() or not list(settings.releases_dir.iterdir())
    assert not read_release_notices(settings).newest
