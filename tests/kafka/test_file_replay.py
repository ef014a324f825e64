"""Replays of files: each event once, however often a replay is interrupted or repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs
from typer.testing import CliRunner, Result

from anabranch import messages
from anabranch.cli.main import app
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.messages import Event
from anabranch.settings import Settings
from producers.file_replay import FileReplay, RecordedEvents, ReplayInterrupted, UnfinishedReplay, replay_file

COUNT = 5_000
EVENTS = [
    Event(event_id=f"e{n}", user_id=f"u{n % 50}", type="view", item_id=f"i{n % 70}", ts=1_500_000_000_000 + n)
    for n in range(COUNT)
]


def recorded(events: Sequence[Event], file_id: str = "a-file") -> RecordedEvents:
    return RecordedEvents(file_id, len(events), events)


def published(settings: Settings) -> list[str]:
    """Ids of all committed events, sorted."""
    records = clients.read_to_end(settings, [Topics(settings).events])
    return sorted(messages.events.decode(record.value).event_id for record in records)


def test_every_event_is_published_once(settings: Settings, topics: Topics) -> None:
    result = replay_file(settings, recorded(EVENTS))
    assert (result.published_before, result.published) == (0, COUNT)
    assert published(settings) == sorted(event.event_id for event in EVENTS)


def test_a_second_replay_of_a_file_publishes_nothing(settings: Settings, topics: Topics) -> None:
    replay_file(settings, recorded(EVENTS[:100]))
    result = replay_file(settings, recorded(EVENTS[:100]))
    assert (result.published_before, result.published) == (100, 0)
    assert len(published(settings)) == 100
    assert replay_file(settings, recorded(EVENTS[100:150], "another")).published == 50


def test_a_limited_replay_is_continued_by_the_next(settings: Settings, topics: Topics) -> None:
    assert replay_file(settings, recorded(EVENTS), limit=30).published == 30
    result = replay_file(settings, recorded(EVENTS), limit=50)
    assert (result.published_before, result.published) == (30, 50)
    assert published(settings) == sorted(event.event_id for event in EVENTS[:80])


def test_a_replay_that_dies_in_the_middle_is_continued_without_loss_or_repetition(
    settings: Settings, topics: Topics
) -> None:
    def dying() -> Iterator[Event]:
        yield from EVENTS[:4_500]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay_file(settings, RecordedEvents("a-file", COUNT, dying()))
    assert 0 < len(published(settings)) < 4_500, "whole transactions only"
    replay_file(settings, recorded(EVENTS))
    assert published(settings) == sorted(event.event_id for event in EVENTS)


def test_a_second_replay_at_the_same_time_ends_the_first(settings: Settings, topics: Topics) -> None:
    with closing(FileReplay(settings, "a-file")) as first:
        first.run(recorded(EVENTS), limit=10)
        assert replay_file(settings, recorded(EVENTS), limit=10).published_before == 10
        with pytest.raises(ReplayInterrupted, match="unless another replay of the file is running"):
            first.run(recorded(EVENTS), limit=10)
    assert published(settings) == sorted(event.event_id for event in EVENTS[:20])


def test_a_file_published_again_is_new_events_each_once(settings: Settings, topics: Topics) -> None:
    file = recorded(EVENTS[:100])
    replay_file(settings, file)
    assert replay_file(settings, file, limit=30, again=True).published == 30
    with pytest.raises(UnfinishedReplay, match=r"30 of 100 events .* run the command without --again"):
        replay_file(settings, file, again=True)
    rest = replay_file(settings, file)
    assert (rest.published_before, rest.published, rest.round) == (30, 70, 1)
    done = replay_file(settings, file)
    assert (done.published_before, done.published) == (100, 0)
    assert replay_file(settings, file, again=True).round == 2
    ids = published(settings)
    assert len(set(ids)) == len(ids) == 300
    assert {f"e7{suffix}" for suffix in ("", "~2", "~3")} <= set(ids)


def test_again_publishes_a_file_that_has_never_been_published_as_it_is(settings: Settings, topics: Topics) -> None:
    assert replay_file(settings, recorded(EVENTS[:5]), again=True).published == 5
    assert published(settings) == [event.event_id for event in EVENTS[:5]]


def test_a_long_id_stays_within_its_bound_when_published_again(settings: Settings, topics: Topics) -> None:
    long = [structs.replace(EVENTS[n], event_id=str(n) + "x" * 511) for n in range(2)]
    replay_file(settings, recorded(long))
    replay_file(settings, recorded(long), again=True)
    assert len(set(published(settings))) == 4, "all four can be decoded"


# --- anabranch replay -------------------------------------------------------------------------------------------------

HEADER = "user_id,item_id,type,ts\n"
ROWS = [f"u{n % 3},i{n},view,{1_500_000_000_000 + n}\n" for n in range(20)]


def replay_command(settings: Settings, path: Path, *options: str) -> Result:
    connection = ("--bootstrap-servers", settings.bootstrap_servers, "--topic-prefix", settings.topic_prefix)
    data_dir = ("--data-dir", str(settings.data_dir), "--set", f"partitions={settings.partitions}")
    return CliRunner().invoke(app, [*connection, *data_dir, "replay", str(path), *options])


def test_a_faulty_file_publishes_nothing_until_it_is_mended(settings: Settings, topics: Topics, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(HEADER + "".join(ROWS[:10]) + "u1,i1,view,never\n" + "".join(ROWS[10:]))
    failed = replay_command(settings, path)
    assert failed.exit_code == 2
    assert "events.csv, row 11: ts 'never' is not a time" in failed.output
    assert published(settings) == []

    path.write_text(HEADER + "".join(ROWS))
    assert "20 of 20 events published" in replay_command(settings, path).output
    nothing = replay_command(settings, path).output
    assert "0 of 20 events published; 20 had been published before (--again publishes them as new events)" in nothing
    assert len(published(settings)) == 20
    assert "20 of 20 events published\n" in replay_command(settings, path, "--again").output
    assert len(published(settings)) == 40


def test_faulty_rows_are_skipped_on_demand_and_listed(settings: Settings, topics: Topics, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(HEADER + "u1,i1,view,never\n" + "".join(ROWS))
    done = replay_command(settings, path, "--skip-faulty")
    assert "20 of 20 events published" in done.output
    assert b'"row":1' in (settings.data_dir / "skipped" / "events.csv.events.jsonl").read_bytes()
