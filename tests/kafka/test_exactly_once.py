"""User states through restarts, pauses and evictions, on a real broker."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

import msgspec
import pytest

from anabranch import messages
from anabranch.harness.environment.broker import Broker
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY, Feedback, Ranking
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.settings import Settings
from models.data.event_log import EventLog
from models.offline.offline_ranker import OfflineRanker, rank_events
from tests.kafka.world import ITEMS, Process, Scrape, World, await_true, purchases
from tests.support.releases import live_release


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def slates(rankings: Sequence[Ranking]) -> dict[str, list[str]]:
    """The items of the slate after each event."""
    return {ranking.cause.event_id: [item.item_id for item in ranking.slate] for ranking in rankings}


def offline_slates(world: World, count: int, users: int) -> dict[str, list[str]]:
    """The slates of a ranker that never stops and evicts nobody."""
    item_ids = ItemVocabulary()
    live = live_release(world.settings.releases_dir / "r1", item_ids, ITEMS)
    events = purchases(count, users)
    layout = StateLayout.from_settings(world.settings)
    ranker = OfflineRanker(live, CoVisitRows(), item_ids, Policy(), layout)
    ranked = rank_events(ranker, EventLog.from_events(events, ITEMS), start=0)
    return {
        event.event_id: [item_ids.id(row) for row in slate] for event, slate in zip(events, ranked.slate, strict=True)
    }


def test_a_restarted_ranker_continues_from_saved_states_and_replays_no_event(world: World) -> None:
    world.go_live("r1")
    events = purchases(200)
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        world.publish(events[:150])
        world.await_rankings(150)
        assert ranker.terminate() == 0
    with Process(world.settings, "rank", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.publish(events[150:])
        rankings = world.await_rankings(200)
        await_true(lambda: scrape.value("anabranch_user_states") == 5, "5 users", ranker.log)
        assert scrape.value("anabranch_restored_events_total") == 0
    assert slates(rankings) == offline_slates(world, 200, users=5)


def test_feedback_after_a_kill_is_joined_with_the_slate_shown_before_it(world: World, broker: Broker) -> None:
    """States are never saved here, so recovery can take the slates only from the rankings."""
    world.go_live("r1")
    events = purchases(100)
    never = ("--set", "checkpoint_ms=3600000", "rank", "--instance", "one", "--start", "earliest")
    with Process(world.settings, *never) as ranker:
        world.publish(events[:60])
        world.await_rankings(60)
        ranker.kill()
    assert {record.key for record in world.records(world.topics.user_state)} == {STATE_MARKER_KEY}
    with Process(world.settings, *never):
        world.publish(events[60:])
        rankings = world.await_rankings(100)
    slate_after = slates(rankings)
    last_event: dict[str, str] = {}
    for feedback in _feedback(world):
        user, item = feedback.event.user_id, feedback.event.item_id
        before = last_event.get(user)
        expected = None if before is None or item not in slate_after[before] else slate_after[before].index(item) + 1
        assert (feedback.rank, feedback.release) == (expected, None if before is None else "r1")
        last_event[user] = feedback.event.event_id


def test_users_over_the_limit_are_evicted_and_loaded_again_unchanged(world: World) -> None:
    world.go_live("r1")
    few_users = ("--set", "max_users=4", "--set", "checkpoint_ms=0", "--set", "batch_max=3")
    with Process(world.settings, *few_users, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.publish(purchases(120, users=12))
        world.await_rankings(120)
        assert scrape.value("anabranch_user_states_recalled_total") > 20
        await_true(lambda: scrape.value("anabranch_user_states") <= 8, "few users in memory", ranker.log)
        assert ranker.terminate() == 0
    with Process(world.settings, *few_users, "rank", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.publish(purchases(60, users=12, first=120))
        rankings = world.await_rankings(180)
        await_true(lambda: scrape.value("anabranch_user_states_away") >= 4, "evicted users", ranker.log)
    assert slates(rankings) == offline_slates(world, 180, users=12)


def test_a_ranker_paused_past_its_session_timeout_publishes_nothing_twice(world: World, broker: Broker) -> None:
    world.go_live("r1")
    events = purchases(900, users=12)
    with Process(world.settings, "rank", "--start", "earliest") as zombie:
        world.publish(events[:300])
        world.await_rankings(300)
        world.publish(events[300:600])
        zombie.signal(signal.SIGSTOP)
        with Process(world.settings, "rank") as successor:
            world.await_rankings(600)
            zombie.signal(signal.SIGCONT)
            world.publish(events[600:])
            world.await_rankings(900)
            time.sleep(2)  # time for the zombie to publish something
            assert zombie.terminate() == 0
            assert successor.terminate() == 0
    rankings = world.rankings()
    assert sorted(ranking.cause.event_id for ranking in rankings) == [event.event_id for event in events]
    assert slates(rankings) == offline_slates(world, 900, users=12)


def test_a_ranker_stopped_within_a_backlog_leaves_the_rest(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "--set", "batch_max=64", "rank", "--start", "earliest") as ranker:
        world.publish(purchases(20_000, users=3_000))
        world.await_rankings(1)
        assert ranker.terminate() == 0
    rankings = world.rankings()
    assert len({ranking.cause.event_id for ranking in rankings}) == len(rankings) < 20_000


def test_a_group_with_reset_offsets_ranks_again_from_there(world: World) -> None:
    """Saved states hold events that are ranked again and cannot be removed from them, so they are not used."""
    world.go_live("r1")
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        world.publish(purchases(100))
        world.await_rankings(100)
        assert ranker.terminate() == 0
    world.reset_offsets()
    with Process(world.settings, "rank") as ranker:
        rankings = world.await_rankings(200)
        assert "states go beyond the group's offset" in ranker.log.read_text()
    assert slates(rankings[:100]) == slates(rankings) == offline_slates(world, 100, users=5)


def test_a_second_group_on_the_same_topics_ends_with_the_remedy(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        world.publish(purchases(20))
        world.await_rankings(20)
        with Process(world.settings, "--set", "ranker_group=second", "rank", "--start", "earliest") as second:
            assert second.wait() == 1
        assert ranker.terminate() == 0
    log = second.log.read_text()
    assert "which" in log and ".second would overwrite. Set ranker_group to that name" in log
    assert "Traceback" not in log
    assert len(world.rankings()) == 20


def test_at_least_once_ranks_every_event_and_continues_from_saved_states(world: World) -> None:
    world.go_live("r1")
    plain = ("--set", "processing_guarantee=at_least_once")
    with Process(world.settings, *plain, "rank", "--start", "earliest") as ranker:
        world.publish(purchases(200))
        rankings = world.await_rankings(200)
        assert ranker.terminate() == 0
    with Process(world.settings, *plain, "rank"):
        world.publish(purchases(50, first=200))
        rankings = world.await_rankings(250)
    assert slates(rankings) == offline_slates(world, 250, users=5)


STOPS_BEFORE_A_STATE = """
import os, signal
from pathlib import Path
from kafka import KafkaProducer
from anabranch.cli.main import app

send = KafkaProducer.send

def send_or_stop(self, topic, *args, **options):
    flag = Path(os.environ["ANABRANCH_DATA_DIR"], "stop")
    if topic.endswith("user-state") and flag.exists():
        flag.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)
    return send(self, topic, *args, **options)

KafkaProducer.send = send_or_stop
app()
"""


def test_at_least_once_a_ranker_paused_before_it_saves_states_overwrites_none_of_its_successor(world: World) -> None:
    world.go_live("r1")
    events = purchases(900, users=12)
    arguments = (
        "--set",
        "processing_guarantee=at_least_once",
        "--set",
        "checkpoint_ms=0",
        "rank",
        "--start",
        "earliest",
    )
    with Process(world.settings, *arguments, program=("-c", STOPS_BEFORE_A_STATE)) as zombie:
        world.publish(events[:300])
        world.await_rankings(300)
        flag = world.settings.data_dir / "stop"
        flag.touch()
        world.publish(events[300:600])
        await_true(lambda: not flag.exists(), "the pause between the rankings and the states", zombie.log)
        with Process(world.settings, *arguments) as successor:
            world.publish(events[600:])
            await_true(lambda: len(slates(world.rankings())) == 900, "900 ranked events", successor.log)
            await_true(lambda: _saved_events(world) == 900, "the states of 900 events", successor.log)
            zombie.signal(signal.SIGCONT)
            zombie.await_log("the transaction was aborted")
            assert zombie.terminate() == 0
            assert successor.terminate() == 0
    assert _saved_events(world) == 900
    assert slates(world.rankings()) == offline_slates(world, 900, users=12)


def _saved_events(world: World) -> int:
    """How many events the newest saved states hold together."""
    newest = {record.key: record.value for record in world.records(world.topics.user_state) if record.key}
    return sum(messages.user_states.decode(value).seen for value in newest.values())


def test_two_processes_of_one_instance_do_not_both_keep_running(world: World, broker: Broker) -> None:
    world.go_live("r1")
    with (
        Process(world.settings, "rank", "--start", "earliest", "--instance", "same") as first,
        Process(world.settings, "rank", "--start", "earliest", "--instance", "same") as second,
    ):
        ended: list[Process] = []

        def has_ended() -> bool:
            world.publish(purchases(20, users=12, first=len(world.rankings())))
            ended[:] = [process for process in (first, second) if process.ended]
            return bool(ended)

        await_true(has_ended, "one of the two to end", first.log)
        assert ended[0].wait() == 1
        assert "Give each process an `instance` of its own" in ended[0].log.read_text()
        assert "Traceback" not in ended[0].log.read_text()


def test_saved_states_and_their_marker_can_be_distinguished(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "--set", "checkpoint_ms=0", "rank", "--start", "earliest") as ranker:
        world.publish(purchases(50))
        world.await_rankings(50)
        assert ranker.terminate() == 0
    records = world.records(world.topics.user_state)
    states = {record.key: messages.user_states.decode(record.value) for record in records if record.key}
    assert {key.decode() for key in states} == {f"u{number}" for number in range(5)}
    assert sum(state.seen for state in states.values()) == 50
    markers = [messages.state_markers.decode(record.value) for record in records if record.key == STATE_MARKER_KEY]
    epochs = [marker.epochs for marker in markers if marker.epochs]  # one is written before the first event is ranked
    assert epochs and all(first.release == "r1" for first, *_ in epochs)


def test_inspect_state_reports_the_size_of_states(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "--set", "checkpoint_ms=0", "rank", "--start", "earliest") as ranker:
        world.publish(purchases(50))
        world.await_rankings(50)
        assert ranker.terminate() == 0
    with Process(world.settings, "inspect", "state", "--json") as inspect:
        assert inspect.wait() == 0
        report = msgspec.json.decode(inspect.log.read_bytes())
    newest = {record.key: record for record in world.records(world.topics.user_state) if record.key}
    sizes = [len(record.key) + len(record.value) for record in newest.values()]
    assert report["users"] == 5
    assert report["saved_bytes_per_user"]["max"] == max(sizes)
    assert (report["dims"], report["state_dims"]) == (8, 8)
    by_field = report["memory_bytes_of_a_record"]
    assert by_field["slate"] == 4 * world.settings.slate_size
    assert report["memory_bytes_per_user"]["mean"] > sum(by_field.values())
    assert report["memory_bytes_per_user_at_most"] > report["memory_bytes_per_user"]["max"]


def _feedback(world: World) -> list[Feedback]:
    return [messages.feedback.decode(record.value) for record in world.records(world.topics.feedback)]
