"""The retraining job with a broker."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from anabranch import messages, release
from anabranch.kafka import clients, release_topic
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, EventType, Item, ReleaseNotice
from anabranch.settings import Settings
from models.data.event_log import NotEnoughData
from models.experiments.training_options import TrainingOptions
from models.gate.release_gate import GateRule
from models.retraining.job import RunResult, run_once
from models.retraining.run import JobConfig
from models.retraining.windows import NotEnoughNewData, WindowLengths
from tests.kafka.world import ITEMS, Process, World, purchases
from tests.support.releases import make_unservable, write_release
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
        release="r1", status="retired", ts=1, location="r1", manifest_sha256="", gate_from=0, gate_to=last_gated_ms
    )
    release_topic.announce(settings, notice)

    with pytest.raises(NotEnoughNewData):
        run_once(settings, JobConfig(), no_bar)

    rows = [messages.neighbours.decode(record.value) for record in clients.read_to_end(settings, [topics.neighbours])]
    assert {row.item_id for row in rows} == {event.item_id for event in events}
    assert read_release_notices(settings).newest == {"r1": notice}


def test_where_nothing_serves_a_run_makes_a_release_that_does_and_says_what_a_trained_one_lacks(
    settings: Settings, topics: Topics
) -> None:
    world = World(settings)
    world.publish_items([Item(item_id=item_id, title=f"thing {item_id}") for item_id in ITEMS])

    result = run_once(settings, JobConfig(), no_bar)

    assert result.gated is None
    assert result.waiting_for == "there are no events to train on: publish some to `events` first"
    live = read_release_notices(settings).live
    assert live == result.bootstrap
    assert live is not None
    manifest = release.open_announced(settings.releases_dir, live).manifest
    assert manifest.is_bootstrap
    assert manifest.strategy["measured"]["items"] == len(ITEMS)
    assert live.gate_to is None, "the gate's window is not used up"
    assert not world.records(topics.neighbours), "there is no event yet"


def test_a_run_warns_where_the_neighbours_job_is_to_publish_the_table_and_never_ran(
    settings: Settings, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    live, world = msgspec.structs.replace(settings, live_neighbours=True), World(settings)
    world.publish_items([Item(item_id=item_id, title=f"thing {item_id}") for item_id in ITEMS])
    run_once(live, JobConfig(), no_bar)
    assert "anabranch neighbours" not in caplog.text, "there is no event yet"
    world.publish(purchases(30))
    with pytest.raises(NotEnoughData):
        run_once(live, JobConfig(), no_bar)
    assert f"nothing on {topics.neighbours}: start `anabranch neighbours`" in caplog.text
    assert not world.records(topics.neighbours)


@pytest.mark.parametrize("fault", ["features", "missing", "damaged"])
def test_a_live_release_that_cannot_serve_counts_as_none_and_gives_way_to_one_that_can(
    settings: Settings, topics: Topics, fault: str
) -> None:
    """Rankers and job both refused it, and only a release that beat it could take its place."""
    world = World(settings)
    folder = settings.releases_dir / "r0001"
    write_release(folder, "r0001", ITEMS)
    if fault == "features":
        make_unservable(folder)
    world.announce("r0001")
    if fault == "missing":
        folder.rename(folder.with_name("elsewhere"))
    if fault == "damaged":
        (folder / "item.onnx").write_bytes(b"")
    world.publish_items([Item(item_id=item_id, title=f"thing {item_id}") for item_id in ITEMS])

    bootstrap = run_once(settings, JobConfig(), no_bar).bootstrap

    assert bootstrap is not None and bootstrap.reason is not None
    reason = {"features": "moon phase", "missing": "does not exist", "damaged": "item.onnx does not match its sha256"}
    assert "the live release cannot serve (" in bootstrap.reason
    assert reason[fault] in bootstrap.reason
    assert (bootstrap.release, bootstrap.parent) == ("r0002", "r0001")
    notices = read_release_notices(settings)
    assert notices.live == bootstrap
    assert notices.newest["r0001"].status == "retired"


def test_a_second_run_makes_no_second_bootstrap_release_and_a_ranker_serves_the_first(
    settings: Settings, topics: Topics
) -> None:
    world = World(settings)
    world.publish_items([Item(item_id=item_id, title=f"thing {item_id}") for item_id in ITEMS])
    events = purchases(30)
    world.publish(events)
    assert run_once(settings, JobConfig(), no_bar).bootstrap is not None
    assert len(world.records(topics.neighbours)) == len({event.item_id for event in events})

    with pytest.raises(NotEnoughData):
        run_once(settings, JobConfig(), no_bar)
    with Process(settings, "index"), Process(settings, "rank", "--start", "earliest"):
        rankings = world.await_rankings(len(events))

    assert [notice.status for notice in read_release_notices(settings).newest.values()] == ["live"]
    assert {ranking.release for ranking in rankings} == {"r0001"}
    assert all(ranking.slate for ranking in rankings)


def test_a_bootstrap_release_of_nothing_gives_way_to_one_of_the_catalogue_and_that_to_one_for_the_kind_of_data(
    settings: Settings, topics: Topics
) -> None:
    def reshare() -> str:
        bootstrap = run_once(settings, JobConfig(), no_bar).bootstrap
        assert bootstrap is not None and bootstrap.reason is not None
        return bootstrap.reason

    world = World(settings)
    assert reshare() == "no release served yet; it ranks until a trained release is better"
    world.publish_items([Item(item_id=item_id, title=f"thing {item_id}") for item_id in ITEMS])
    assert reshare() == "r0001 was made before there were items"
    world.publish(hours_of_views(users=60))
    assert reshare() == "the data is of kind sessions, and r0002 was made for baskets"

    with pytest.raises(NotEnoughData):
        run_once(settings, JobConfig(), no_bar)
    statuses = {name: notice.status for name, notice in read_release_notices(settings).newest.items()}
    assert statuses == {"r0001": "retired", "r0002": "retired", "r0003": "live"}
    manifest = release.open_release(settings.releases_dir / "r0003").manifest
    assert manifest.policy.allow_session_repeats


def test_after_a_release_was_retired_by_hand_no_bootstrap_release_takes_its_place(
    settings: Settings, topics: Topics
) -> None:
    retired = ReleaseNotice(release="r1", status="retired", ts=1, location="r1", manifest_sha256="")
    release_topic.announce(settings, retired)
    with pytest.raises(NotEnoughData):
        run_once(settings, JobConfig(), no_bar)
    assert read_release_notices(settings).newest == {"r1": retired}


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
    options = TrainingOptions(threads=1, strategies="none", text_model=str(text_model))
    config = JobConfig(WindowLengths(0.02, 0.02), "sessions", options.config, GateRule(users=6))
    return run_once(settings, config, no_bar)


def test_windows_of_half_an_hour_make_a_release_where_users_come_back(
    settings: Settings, topics: Topics, text_model: Path
) -> None:
    world = World(settings)
    world.publish_items([Item(item_id=item, title=f"thing {item}") for item in ITEMS])
    world.publish(hours_of_views(users=6))
    gated = reshare_sessions(settings, text_model).gated
    assert gated is not None
    assert gated.candidate.measured["order_lists"] > 0
    assert gated.notice.gate_to is not None and gated.notice.gate_from is not None
    assert gated.notice.gate_to - gated.notice.gate_from == 1_728_000


@pytest.mark.parametrize(
    ("events", "catalogue", "problem"),
    [
        (hours_of_views(users=540), ITEMS, "0 users have events in the gate.s window after an earlier event"),
        (hours_of_views(users=6), [], "the catalogue has no items: publish them with `anabranch catalogue`"),
        (hours_of_views(users=6, item_id="{}.0"), ITEMS, "none of the .* events is about an item of the catalogue"),
        (hours_of_views(users=6)[:60], ITEMS, r"the events span 19\.7 minutes, and the newest"),
        ([], ITEMS, "there are no events to train on"),
    ],
    ids=["nobody comes back", "no catalogue", "ids that join with nothing", "twenty minutes", "no events"],
)
def test_too_little_to_train_on_is_said_and_leaves_the_bootstrap_release_alone_behind(
    events: list[Event], catalogue: list[str], problem: str, settings: Settings, topics: Topics, text_model: Path
) -> None:
    world = World(settings)
    world.publish_items([Item(item_id=item, title=f"thing {item}") for item in catalogue])
    world.publish(events)
    result = reshare_sessions(settings, text_model)
    assert result.gated is None
    assert result.waiting_for is not None and re.search(problem, result.waiting_for)
    assert [path.name for path in settings.releases_dir.glob("r*")] == ["r0001"]
    assert list(read_release_notices(settings).newest) == ["r0001"]
    with pytest.raises(NotEnoughData, match=problem):
        reshare_sessions(settings, text_model)
