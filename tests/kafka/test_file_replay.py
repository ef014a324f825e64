"""Replays of files: each event once, however often a replay is interrupted or repeated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from anabranch import messages
from anabranch.cli.main import app
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.messages import Event
from anabranch.settings import Settings
from producers.file_replay import FileReplay, ReplayInterrupted, replay_file

COUNT = 5_000
EVENTS = [
    Event(event_id=f"e{n}", user_id=f"u{n % 50}", type="view", item_id=f"i{n % 70}", ts=1_500_000_000_000 + n)
    for n in range(COUNT)
]


def published(settings: Settings) -> list[str]:
    """Ids of all committed events, sorted."""
    records = clients.read_to_end(settings, [Topics(settings).events])
    return sorted(messages.events.decode(record.value).event_id for record in records)


def test_every_event_is_published_once(settings: Settings, topics: Topics) -> None:
    result = replay_file(settings, "a-file", EVENTS)
    assert (result.published_before, result.published) == (0, COUNT)
    assert published(settings) == sorted(event.event_id for event in EVENTS)


def test_a_second_replay_of_a_file_publishes_nothing(settings: Settings, topics: Topics) -> None:
    replay_file(settings, "a-file", EVENTS[:100])
    result = replay_file(settings, "a-file", EVENTS[:100])
    assert (result.published_before, result.published) == (100, 0)
    assert len(published(settings)) == 100
    assert replay_file(settings, "another", EVENTS[100:150]).published == 50


def test_a_limited_replay_is_continued_by_the_next(settings: Settings, topics: Topics) -> None:
    assert replay_file(settings, "a-file", EVENTS, limit=30).published == 30
    result = replay_file(settings, "a-file", EVENTS, limit=50)
    assert (result.published_before, result.published) == (30, 50)
    assert published(settings) == sorted(event.event_id for event in EVENTS[:80])


def test_a_replay_that_dies_in_the_middle_is_continued_without_loss_or_repetition(
    settings: Settings, topics: Topics
) -> None:
    def dying() -> Iterator[Event]:
        yield from EVENTS[:4_500]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay_file(settings, "a-file", dying())
    assert 0 < len(published(settings)) < 4_500, "whole transactions only"
    replay_file(settings, "a-file", EVENTS)
    assert published(settings) == sorted(event.event_id for event in EVENTS)


def test_a_second_replay_at_the_same_time_ends_the_first(settings: Settings, topics: Topics) -> None:
    with closing(FileReplay(settings, "a-file")) as first:
        first.run(EVENTS, limit=10, progress=lambda n: None)
        assert replay_file(settings, "a-file", EVENTS, limit=10).published_before == 10
        with pytest.raises(ReplayInterrupted, match="unless another replay of the file is running"):
            first.run(EVENTS, limit=10, progress=lambda n: None)
    assert published(settings) == sorted(event.event_id for event in EVENTS[:20])


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
    assert "0 of 20 events published; 20 had been published before" in replay_command(settings, path).output
    assert len(published(settings)) == 20


def test_faulty_rows_are_skipped_on_demand_and_listed(settings: Settings, topics: Topics, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(HEADER + "u1,i1,view,never\n" + "".join(ROWS))
    done = replay_command(settings, path, "--skip-faulty")
    assert "20 of 20 events published" in done.output
    assert b'"row":1' in (settings.data_dir / "skipped" / "events.csv.jsonl").read_bytes()
