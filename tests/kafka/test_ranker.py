"""The ranker as a separate process, on a real broker."""

from __future__ import annotations

import re
import signal
import time
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import pytest
from kafka.admin import KafkaAdminClient, MemberToRemove

from anabranch import messages
from anabranch.harness.environment.broker import Broker
from anabranch.harness.environment.reconciliation import LoggedEvent, LoggedRanking, reconcile
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, Ranking
from anabranch.placements import AGAIN, DISCOVER, FOR_YOU
from anabranch.settings import Settings
from tests.kafka.world import ITEMS, Process, Scrape, World, await_true, purchases


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def by_user(rankings: Sequence[Ranking]) -> dict[str, list[str]]:
    event_ids: dict[str, list[str]] = defaultdict(list)
    for ranking in rankings:
        event_ids[ranking.user_id].append(ranking.cause.event_id)
    return event_ids


def events_by_user(events: Sequence[Event]) -> dict[str, list[str]]:
    event_ids: dict[str, list[str]] = defaultdict(list)
    for event in events:
        event_ids[event.user_id].append(event.event_id)
    return event_ids


def test_every_event_gets_one_ranking_in_order_per_user(world: World) -> None:
    world.go_live("r1")
    events = purchases(300)
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        world.publish(events)
        rankings = world.await_rankings(300)
        assert ranker.terminate() == 0
    assert by_user(rankings) == events_by_user(events)
    assert all(len({item.item_id for item in ranking.slate}) == 20 for ranking in rankings)
    assert len(world.records(world.topics.feedback)) == 300


def test_feedback_joins_an_event_with_the_slate_before_it(world: World) -> None:
    world.go_live("r1")
    first, second = purchases(2, users=1)
    with Process(world.settings, "rank", "--start", "earliest"):
        world.publish([first])
        fifth_item = world.await_rankings(1)[0].slate[4].item_id
        world.publish([msgspec.structs.replace(second, item_id=fifth_item)])
        world.await_rankings(2)
    before, after = (messages.feedback.decode(record.value) for record in world.records(world.topics.feedback))
    assert (before.release, before.rank, before.slate_size) == (None, None, 0)
    assert (after.release, after.rank, after.slate_size) == ("r1", 5, 20)


def test_an_item_at_an_explored_place_is_joined_with_its_propensity_after_kill_9_too(world: World) -> None:
    """The catalogue has room for the pool of one explored place, not of two."""
    explores = World(msgspec.structs.replace(world.settings, explore_places=2))
    explores.go_live("r1")
    first, second, third = purchases(3, users=1)
    with Process(explores.settings, "rank", "--start", "earliest") as ranker:
        explores.publish([first])
        shown = explores.await_rankings(1)[0]
        explores.publish([msgspec.structs.replace(second, item_id=shown.slate[-1].item_id)])
        shown_next = explores.await_rankings(2)[1]
        ranker.kill()
    with Process(explores.settings, "rank", "--start", "earliest"):
        explores.publish([msgspec.structs.replace(third, item_id=shown_next.slate[-2].item_id)])
        explores.await_rankings(3)
    assert (shown.explored, shown_next.explored) == (1, 1)
    feedback = [messages.feedback.decode(record.value) for record in explores.records(explores.topics.feedback)]
    assert [(entry.rank, entry.propensity) for entry in feedback] == [(None, None), (20, 0.04), (19, 1.0)]


def test_the_slates_of_every_placement_are_joined_with_the_next_event_after_kill_9_too(world: World) -> None:
    shop = World(msgspec.structs.replace(world.settings, placements=(FOR_YOU, AGAIN, DISCOVER)))
    shop.go_live("r1")
    *past, first, second = purchases(20, users=1) + purchases(2, users=1, first=40)
    with Process(shop.settings, "rank", "--start", "earliest") as ranker:
        shop.publish(past)
        shown = shop.await_rankings(20)[-1]
        shop.publish([msgspec.structs.replace(first, item_id=shown.slates["discover"][2].item_id)])
        shown_next = shop.await_rankings(21)[-1]
        ranker.kill()
    with Process(shop.settings, "rank", "--start", "earliest"):
        shop.publish([msgspec.structs.replace(second, item_id=shown_next.slates["again"][1].item_id)])
        shop.await_rankings(22)
    own = {event.item_id for event in past}
    assert {item.item_id for item in shown.slates["again"]} <= own
    assert not {item.item_id for item in shown.slates["discover"]} & own
    discovered, again = shop.feedback()[-2:]
    assert (discovered.ranks, again.ranks) == ({"discover": 3}, {"again": 2})


def test_the_latest_event_of_a_user_and_batch_is_ranked_and_every_event_gets_feedback(world: World) -> None:
    world.go_live("r1")
    events = purchases(400)
    world.publish(events)
    with Process(world.settings, "rank", "--start", "earliest", "--rank", "latest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        await_true(lambda: len(world.records(world.topics.feedback)) == 400, "400 pieces of feedback", ranker.log)
        await_true(lambda: scrape.value("anabranch_events_total") == 400, "400 counted events", ranker.log)
        assert scrape.value("anabranch_rankings_total") == len(world.rankings())
    published = {
        (record.partition, record.offset): LoggedEvent(messages.events.decode(record.value), record.timestamp)
        for record in world.records(world.topics.events)
    }
    answers = [LoggedRanking(ranking, 0) for ranking in world.rankings()]
    feedback = [messages.feedback.decode(record.value) for record in world.records(world.topics.feedback)]
    balance = reconcile(published, answers, feedback, [], latest_only=True)
    assert balance.balanced
    assert balance.covered > 0
    assert balance.events_ranked + balance.covered == 400


def test_poison_goes_to_the_dead_letters_and_the_stream_goes_on(world: World) -> None:
    world.go_live("r1")
    poison = {b"u0": b"not json", b"u1": b'{"event_id":"x","user_id":"u1","type":"view"}', b"u2": None, b"u3": b"\xff"}
    with Process(world.settings, "rank", "--start", "earliest"):
        world.publish(purchases(10))
        for key, value in poison.items():
            world.send(world.topics.events, key, value)
        world.publish(purchases(10, first=10))
        assert len(world.await_rankings(20)) == 20
    dead = world.records(world.topics.dead_letter)
    assert {record.key: record.value for record in dead} == poison
    headers = [dict(record.headers) for record in dead]
    assert {names["topic"].decode() for names in headers} == {world.topics.events}
    assert all(names["partition"].isdigit() and names["offset"].isdigit() and names["reason"] for names in headers)


def test_kill_9_and_a_restart_publish_nothing_twice(world: World, broker: Broker) -> None:
    world.go_live("r1")
    events = purchases(1500)
    with Process(world.settings, "rank", "--start", "earliest", "--instance", "one") as ranker:
        world.publish(events[:800])
        await_true(lambda: len(world.records(world.topics.rankings)) > 50, "some rankings", ranker.log)
        ranker.kill()
    world.publish(events[800:])
    with Process(world.settings, "rank", "--instance", "one"):
        world.await_rankings(1500)
    assert by_user(world.rankings()) == events_by_user(events)
    assert len(world.records(world.topics.feedback)) == 1500


def test_a_restored_ranker_ranks_as_one_that_never_stopped(world: World) -> None:
    """Recovery replays events; the slates after it are those of a ranker that did not stop."""
    world.go_live("r1")
    events = purchases(120)
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        world.publish(events[:60])
        world.await_rankings(60)
        assert ranker.terminate() == 0
    with Process(world.settings, "rank") as ranker:
        world.publish(events[60:])
        restarted = {ranking.cause.event_id: ranking.slate for ranking in world.await_rankings(120)}
        assert ranker.terminate() == 0
    world.reset_offsets()
    with Process(world.settings, "rank"):
        rankings = world.await_rankings(240)
    unbroken = {ranking.cause.event_id: ranking.slate for ranking in rankings[-240:]}
    for event in events[60:]:
        assert restarted[event.event_id] == unbroken[event.event_id]


def test_history_before_a_new_group_is_replayed_and_not_ranked(world: World) -> None:
    world.go_live("r1")
    world.publish(purchases(50))
    with Process(world.settings, "rank", "--start", "latest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        await_true(lambda: scrape.value("anabranch_restored_events_total") == 50, "50 replayed events", ranker.log)
        world.publish(purchases(5, first=50))
        rankings = world.await_rankings(5)
        await_true(lambda: scrape.value("anabranch_user_states") == 5, "5 user states", ranker.log)
    assert {ranking.cause.event_id for ranking in rankings} == {f"e{number:05d}" for number in range(50, 55)}


def test_a_replayed_batch_publishes_nothing_twice(world: World) -> None:
    world.go_live("r1")
    events = purchases(20)
    with Process(world.settings, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.publish(events)
        world.await_rankings(20)
        world.publish(events)
        await_true(
            lambda: scrape.value("anabranch_events_ignored_total", reason="duplicate") == 20,
            "20 duplicates",
            ranker.log,
        )
        world.publish(purchases(1, first=20))
        assert len(world.await_rankings(21)) == 21


def test_a_swap_while_events_flow_never_mixes_releases(world: World) -> None:
    world.go_live("r1", seed=1)
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        world.publish(purchases(500))
        world.await_rankings(100)
        world.go_live("r2", seed=2)
        ranker.await_log("release r2 is live")
        world.publish(purchases(500, first=500))
        rankings = world.await_rankings(1000)
    releases = [ranking.release for ranking in rankings]
    assert set(releases) == {"r1", "r2"}
    for partition in (0, 1):
        releases = [ranking.release for ranking in rankings if ranking.cause.partition == partition]
        assert releases == sorted(releases), "a partition goes from r1 to r2 once"
    # The same users and items score differently under r1 and r2: no slate has r2's name and r1's scores.
    slates = {(ranking.release, ranking.user_id): ranking.slate for ranking in rankings}
    assert all(slates["r1", user] != slates["r2", user] for user in by_user(rankings))


def test_a_rolled_back_release_serves_again(world: World) -> None:
    world.go_live("r1", seed=1)
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        ranker.await_log("release r1 is live")
        world.go_live("r2", seed=2)
        ranker.await_log("release r2 is live")
        world.go_live("r1", seed=1)
        ranker.await_log("reading the item vectors of release r1 again")
        await_true(
            lambda: len(re.findall("release r1 is live with", ranker.log.read_text())) == 2, "r1 to be back", ranker.log
        )
        world.publish(purchases(3))
        assert {ranking.release for ranking in world.await_rankings(3)} == {"r1"}


def test_a_ranker_that_starts_before_the_live_release_is_indexed_serves_its_parent(world: World) -> None:
    """Otherwise a restart would stop its partitions for the minutes that the indexer takes."""
    world.go_live("r1", seed=1)
    world.announce("r2", seed=2, parent="r1")
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        world.publish(purchases(20))
        assert {ranking.release for ranking in world.await_rankings(20)} == {"r1"}
        world.vectorise("r2")
        ranker.await_log("release r2 is live")
        world.publish(purchases(20, first=20))
        assert [ranking.release for ranking in world.await_rankings(40)].count("r2") == 20


def test_without_a_live_release_the_ranker_waits_and_says_so(world: World) -> None:
    world.publish(purchases(5))
    with Process(world.settings, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        ranker.await_log("waiting for a live release")
        scrape = Scrape.of(ranker)
        await_true(
            lambda: sum(v for (name, _), v in scrape().items() if name == "anabranch_consumer_lag") == 5,
            "a lag of 5",
            ranker.log,
        )
        assert world.rankings() == []
        world.go_live("r1")
        world.await_rankings(5)


def test_a_release_with_an_altered_file_does_not_serve_and_the_ranker_goes_on_with_the_next(world: World) -> None:
    world.announce("r1")
    (world.settings.releases_dir / "r1" / "items.json").write_bytes(b"{}")
    world.send(world.topics.item_vectors, b"\x1fr1", b'{"type":"coverage","release":"r1","items":0,"ts":1}')
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        line = ranker.await_log("release r1 cannot serve here, and nothing ranks before one that can")
        assert "items.json does not match its sha256" in line
        ranker.await_log("waiting for another release, for r1 cannot serve")
        world.go_live("r2")
        world.publish(purchases(10))
        assert {ranking.release for ranking in world.await_rankings(10)} == {"r2"}
        assert ranker.terminate() == 0
        assert "Traceback" not in ranker.log.read_text()


def test_two_rankers_share_the_partitions_and_one_takes_over(world: World) -> None:
    world.go_live("r1")
    events = purchases(900, users=12)
    with Process(world.settings, "rank", "--start", "earliest") as first:
        world.publish(events[:300])
        world.await_rankings(300)
        with Process(world.settings, "rank") as second:
            second.await_log("assigned partitions: [")
            world.publish(events[300:600])
            world.await_rankings(600)
            assert first.terminate() == 0
            world.publish(events[600:])
            world.await_rankings(900)
    assert by_user(world.rankings()) == events_by_user(events)


def test_a_ranker_removed_from_its_group_recovers_and_publishes_nothing_twice(
    world: World, admin: KafkaAdminClient, broker: Broker
) -> None:
    world.go_live("r1")
    events = purchases(4000, users=40)
    group = world.settings.group("ranker")
    with Process(world.settings, "--set", "batch_max=64", "rank", "--start", "earliest") as ranker:
        world.publish(events[:1000])
        world.await_rankings(1000)
        world.publish(events[1000:])
        for _ in range(3):
            members = admin.describe_groups([group])[group]["members"]
            admin.remove_group_members(group, [MemberToRemove(member_id=member["member_id"]) for member in members])
            time.sleep(0.5)
        world.await_rankings(4000)
        log_text = ranker.log.read_text()
        assert "transaction was aborted" in log_text or "needs to re-join" in log_text
    assert by_user(world.rankings()) == events_by_user(events)


def test_every_metric_of_a_running_ranker_moves(world: World) -> None:
    world.go_live("r1")
    world.publish(purchases(40))
    arguments = ("--set", "batch_max=50", "rank", "--start", "latest", "--metrics-port", "0")
    with Process(world.settings, *arguments) as ranker:
        scrape = Scrape.of(ranker)
        await_true(lambda: scrape.value("anabranch_user_states") == 5, "restored states", ranker.log)
        before = scrape()
        ranker.signal(signal.SIGSTOP)  # while events arrive, so that the next batch is full
        world.publish([*purchases(200, first=40), *purchases(10, first=230)])
        world.send(world.topics.events, b"u", b"junk")
        ranker.signal(signal.SIGCONT)
        await_true(lambda: scrape.value("anabranch_events_total") == 211, "211 events", ranker.log)
        await_true(lambda: scrape.value("anabranch_index_recall") > 0, "a recall", ranker.log)
        await_true(lambda: any(name == "anabranch_consumer_lag" for name, _ in scrape()), "a lag", ranker.log)
        after = scrape()
    moved = {name for (name, labels), value in after.items() if before.get((name, labels)) != value}
    assert moved >= {
        "anabranch_events_total",
        "anabranch_rankings_total",
        "anabranch_dead_letters_total",
        "anabranch_events_ignored_total",
        "anabranch_event_to_ranking_seconds_count",
        "anabranch_batch_events_count",
        "anabranch_full_batches_total",
        "anabranch_stage_seconds_count",
        "anabranch_index_recall",
        "anabranch_prequential_events_total",
        "anabranch_prequential_hits_total",
    }
    value = {name: number for (name, labels), number in after.items() if not labels}
    assert value["anabranch_rankings_total"] == 200
    assert value["anabranch_restored_events_total"] == 40
    assert value["anabranch_index_items"] == len(ITEMS)
    assert value["anabranch_user_state_bytes"] > 0
    assert value["anabranch_event_to_ranking_seconds_count"] == 200
    assert after["anabranch_dead_letters_total", frozenset({("reason", "invalid")})] == 1
    assert after["anabranch_events_ignored_total", frozenset({("reason", "duplicate")})] == 10
    assert {dict(labels)["stage"] for name, labels in after if name == "anabranch_stage_seconds_count"} == {
        "decode",
        "encode",
        "retrieve",
        "features",
        "order",
        "join",
        "write",
        "publish",
    }
    assert any(name == "anabranch_live_release_info" and ("release", "r1") in labels for name, labels in after)
