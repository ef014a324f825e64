"""The retraining job beside itself, beside another installation, and after its topics changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from anabranch import release
from anabranch.harness.environment.local_broker import LocalBroker
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics, provision
from anabranch.messages import Event, Item
from anabranch.settings import Settings
from models.data.event_log import NotEnoughData
from models.data.event_store import EventStore
from models.retraining.folder_lock import FolderInUse
from models.retraining.job import RunCallbacks, run_once
from models.retraining.log_bounds import LogTruncated
from models.retraining.run import JobConfig, ReleasesChanged
from models.retraining.workspace import AnotherLog, open_workspace
from tests.kafka.world import ITEMS, TRAINING_PATIENCE_S, Process, World, await_true, purchases

pytestmark = pytest.mark.timeout(900)


@contextmanager
def no_bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    yield lambda n: None


def reshare(settings: Settings, on_missed: Callable[[int], None] = lambda records: None) -> None:
    """One run, which may find too little to train on."""
    with suppress(NotEnoughData):
        run_once(settings, JobConfig(), no_bar, callbacks=RunCallbacks(missed=on_missed))


def stored_events(settings: Settings) -> list[str]:
    """The users of the stored events, in order of time."""
    events = EventStore.open(settings.data_dir / "reshare" / "journal").log()
    return [events.user_ids[user] for user in events.user]


def fill(settings: Settings, events: list[Event]) -> World:
    world = World(settings)
    world.publish_items([Item(item_id=item_id, title=f"thing {item_id}") for item_id in ITEMS])
    world.publish(events)
    return world


# --- two at once ------------------------------------------------------------------------------------------------------


def test_of_two_runs_at_once_in_one_folder_one_is_refused_and_says_who_runs(settings: Settings, topics: Topics) -> None:
    fill(settings, purchases(30))
    with Process(settings, "reshare", "--once") as first, Process(settings, "reshare", "--once") as second:
        await_true(lambda: first.ended or second.ended, "one of the two to end", first.log, TRAINING_PATIENCE_S)
        refused, running = (first, second) if first.ended else (second, first)
        assert refused.wait() == 1
        (line,) = refused.log.read_text().splitlines()
        assert f"process {running.pid} on " in line and "wait until it has ended, or stop it" in line
        assert "Traceback" not in refused.log.read_text()
        await_true(lambda: running.ended, "the other one", running.log, TRAINING_PATIENCE_S)

    assert list(read_release_notices(settings).newest) == ["r0001"]
    (live,) = read_release_notices(settings).newest.values()
    release.open_announced(settings.releases_dir, live).verify()


def test_runs_on_machines_that_share_only_the_folder_of_releases_exclude_each_other(
    settings: Settings, topics: Topics, tmp_path: Path
) -> None:
    elsewhere = msgspec.structs.replace(settings, data_dir=tmp_path / "elsewhere", releases_dir=settings.releases_dir)
    with open_workspace(settings), pytest.raises(FolderInUse, match="makes releases of the same topics in"):
        reshare(elsewhere)


def test_a_release_that_somebody_else_announces_during_a_run_stays_live_and_the_run_announces_nothing(
    settings: Settings, topics: Topics
) -> None:
    def announce_meanwhile(name: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        if name == "Bootstrap release":
            world.announce("by-hand")
        return no_bar(name, total)

    world = fill(settings, purchases(30))
    with pytest.raises(ReleasesChanged, match=r"was announced during this run.*\(live is now by-hand\)"):
        run_once(settings, JobConfig(), announce_meanwhile)
    assert list(read_release_notices(settings).newest) == ["by-hand"]
    assert [folder.name for folder in release.folders(settings.releases_dir)] == ["by-hand"]
    assert not (settings.releases_dir / "r0001").exists()


def test_a_killed_run_leaves_no_lock_and_the_next_one_says_so_and_removes_its_half_release(
    settings: Settings, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    fill(settings, purchases(30))
    with Process(settings, "reshare", "--once") as killed:
        await_true(
            lambda: any(settings.releases_dir.glob("r*/*")), "a release to be begun", killed.log, TRAINING_PATIENCE_S
        )
        killed.kill()
    beside = settings.releases_dir / "r0009"
    beside.mkdir()  # without a manifest too, but not the killed run's

    with caplog.at_level("WARNING"):
        reshare(settings)

    (line,) = [record.getMessage() for record in caplog.records if "was killed" in record.getMessage()]
    half = settings.releases_dir / "r0001"
    assert line.startswith(f"the last run, of process {killed.pid} on ")
    assert f"was killed; {half}, which it had begun, is removed" in line
    assert not half.exists() and beside.exists()
    live = read_release_notices(settings).live
    assert live is not None and live.release == "r0010"
    with caplog.at_level("WARNING"):
        reshare(settings)
    assert caplog.text.count("was killed") == 1


# --- two installations ------------------------------------------------------------------------------------------------


def test_a_second_topic_prefix_is_refused_in_the_folder_of_the_first(
    settings: Settings, topics: Topics, admin: KafkaAdminClient
) -> None:
    other = msgspec.structs.replace(settings, topic_prefix=f"{settings.topic_prefix}other.")
    provision(admin, other)
    fill(settings, purchases(30))
    fill(other, purchases(30))
    reshare(settings)
    live = read_release_notices(settings).live
    before = stored_events(settings)

    with pytest.raises(AnotherLog, match=f"topic_prefix '{settings.topic_prefix}', and this is .*data_dir"):
        reshare(other)

    assert stored_events(settings) == before
    assert not read_release_notices(other).newest
    assert live is not None
    release.open_announced(settings.releases_dir, live).verify()


def test_two_installations_that_share_the_folder_of_releases_make_releases_of_their_own(
    settings: Settings, topics: Topics, admin: KafkaAdminClient, tmp_path: Path
) -> None:
    other = msgspec.structs.replace(
        settings,
        topic_prefix=f"{settings.topic_prefix}other.",
        data_dir=tmp_path / "other",
        releases_dir=settings.releases_dir,
    )
    provision(admin, other)
    with open_workspace(settings):
        reshare(other)
    reshare(settings)
    (first,), (second,) = (read_release_notices(each).newest.values() for each in (other, settings))
    assert (first.release, second.release) == ("r0001", "r0002")
    for notice in (first, second):
        release.open_announced(settings.releases_dir, notice).verify()


# --- other topics under the same names --------------------------------------------------------------------------------


def test_topics_that_were_deleted_and_created_again_are_not_read_into_the_store_of_the_old_ones(
    settings: Settings, topics: Topics, admin: KafkaAdminClient
) -> None:
    fill(settings, purchases(30))
    reshare(settings)
    before = stored_events(settings)
    recreate(admin, settings)
    fill(settings, purchases(40, first=100))

    with pytest.raises(AnotherLog, match="holds events of topics events, feedback that were deleted and created again"):
        reshare(settings)

    assert stored_events(settings) == before
    (settings.data_dir / "reshare").rename(settings.data_dir / "reshare-old")  # as the error says
    reshare(settings)
    assert len(stored_events(settings)) == 40


def test_a_wiped_broker_is_not_read_into_the_store_of_the_old_one(tmp_path: Path) -> None:
    def broker(folder: str) -> LocalBroker:
        return LocalBroker(tmp_path / folder)

    def settings_on(bootstrap_servers: str) -> Settings:
        created = Settings(bootstrap_servers=bootstrap_servers, data_dir=tmp_path / "data", partitions=2)
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap_servers)) as admin:
            provision(admin, created)
        return created

    old, wiped = broker("old"), broker("wiped")
    try:
        settings = settings_on(old.start())
        fill(settings, purchases(30))
        reshare(settings)
        before = stored_events(settings)
    finally:
        old.stop()
    try:
        settings = settings_on(wiped.start())
        fill(settings, purchases(40, first=100))
        with pytest.raises(AnotherLog, match=r"holds events of cluster \w+, and this is \w+\. Nothing was read"):
            reshare(settings)
        assert stored_events(settings) == before
        assert not read_release_notices(settings).newest
    finally:
        wiped.stop()


def test_a_folder_of_an_earlier_version_belongs_to_the_first_that_opens_it_which_says_so(
    settings: Settings, topics: Topics, admin: KafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    fill(settings, purchases(30))
    reshare(settings)
    log_file = settings.data_dir / "reshare" / "log.json"
    log_file.unlink()
    with caplog.at_level("WARNING"):
        reshare(settings)
    (line,) = [record.getMessage() for record in caplog.records if "earlier version" in record.getMessage()]
    assert line.startswith(f"{settings.data_dir / 'reshare'}, of an earlier version, belongs to cluster ")
    assert len(stored_events(settings)) == 30

    recreate(admin, settings)
    with pytest.raises(AnotherLog):
        reshare(settings)


# --- a log that has lost its end, or its beginning --------------------------------------------------------------------


def test_a_log_that_ends_before_the_stores_offsets_is_not_read(settings: Settings, topics: Topics) -> None:
    fill(settings, purchases(30))
    reshare(settings)
    store = EventStore.open(settings.data_dir / "reshare" / "journal")
    (partition, end), *_ = [(number, offset) for number, offset in store.next_offsets["events"].items() if offset]
    store.append([], {"events": {partition: end + 5}})  # as if the broker had lost five events since

    refusal = (
        rf"events, partition {partition} ends at offset {end}, and was read up to {end + 5}: .*Move .*reshare away"
    )
    with pytest.raises(LogTruncated, match=refusal):
        reshare(settings)


def test_events_that_retention_deletes_unread_are_counted_once_and_said(
    settings: Settings, topics: Topics, admin: KafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    one_partition = [of_one_user(event) for event in purchases(50)]
    world = fill(settings, one_partition[:20])
    reshare(settings)
    world.publish(one_partition[20:40])
    (partition,) = {record.partition for record in world.records(topics.events)}
    admin.delete_records({TopicPartition(topics.events, partition): 35})
    world.publish(one_partition[40:])
    missed: list[int] = []

    with caplog.at_level("WARNING"):
        reshare(settings, missed.append)
        reshare(settings, missed.append)

    assert missed == [15, 0]
    (line,) = [record.getMessage() for record in caplog.records if "retention has deleted" in record.getMessage()]
    assert line.startswith(f"{topics.events}, partition {partition}: retention has deleted up to 15 records")
    assert len(stored_events(settings)) == 35


def of_one_user(event: Event) -> Event:
    """The event, of a user whose events are all in one partition."""
    return msgspec.structs.replace(event, user_id="u0")


def recreate(admin: KafkaAdminClient, settings: Settings) -> None:
    """Delete every topic, and create it again."""
    names = [topic.name for topic in Topics(settings).all]
    admin.delete_topics(names)
    await_true(lambda: not set(names) & set(admin.list_topics()), "the topics to be gone")
    provision(admin, settings)
