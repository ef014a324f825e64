"""The demo, small, end to end: a broker, and every part of the loop as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
from markupsafe import escape

from anabranch import messages, release
from anabranch.harness.demo.run import CLICKS
from anabranch.harness.demo.visitor import VISITOR
from anabranch.kafka import clients
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from producers import completejourney

HOUSEHOLDS, HISTORY_WEEKS, REPLAY_WEEKS, SEED = 250, 9, 4, 3
BASELINES = ("popularity", "personal_frequency", "co_visit", "session_knn", "user_knn")


@pytest.fixture(scope="module")
def demo(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Settings]:
    """The summary of a demo that ended well, and settings to read its topics with."""
    data_dir = tmp_path_factory.mktemp("demo")
    sizes = {"--households": HOUSEHOLDS, "--history-weeks": HISTORY_WEEKS, "--replay-weeks": REPLAY_WEEKS}
    options = [str(part) for pair in sizes.items() for part in pair]
    summary, _ = _run(bootstrap_servers, data_dir, "--seed", str(SEED), *options)
    place = {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
    return summary, Settings(**place, topic_prefix=summary["topic_prefix"])


def _run(bootstrap_servers: str, data_dir: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The summary of a demo that ended well, and what it printed."""
    where = ["--bootstrap-servers", bootstrap_servers, "--data-dir", str(data_dir)]
    command = [sys.executable, "-m", "anabranch", "demo", *where, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "160"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return msgspec.json.decode((data_dir / "summary.json").read_bytes()), done.stdout + done.stderr


pytestmark = pytest.mark.timeout(1800)


def _played() -> list[str]:
    last = HISTORY_WEEKS + REPLAY_WEEKS
    purchases = completejourney.purchases(SEED, (1, last)).of_households(HOUSEHOLDS, SEED)
    return [event.event_id for event in purchases.events()]


def test_every_event_has_exactly_one_ranking_or_dead_letter(demo: tuple[dict[str, Any], Settings]) -> None:
    summary, settings = demo
    topics = Topics(settings)
    answers = Counter(
        messages.rankings.decode(record.value).cause.event_id
        for record in clients.read_to_end(settings, [topics.rankings])
    )
    answers.update(
        messages.events.decode(record.value).event_id for record in clients.read_to_end(settings, [topics.dead_letter])
    )
    visitor = [event_id for event_id in answers if event_id.startswith(VISITOR)]
    assert len(visitor) == summary["clicks"] == CLICKS
    assert answers == Counter([*_played(), *visitor])
    assert summary["events_published"] == summary["events_ranked"] == answers.total()
    assert (summary["dead_letters"], summary["rankings_published"]) == (0, answers.total())
    assert summary["feedback_published"] == answers.total()


def test_rankings_of_a_user_stand_in_the_order_of_the_events(demo: tuple[dict[str, Any], Settings]) -> None:
    _, settings = demo
    causes = defaultdict(list)
    for record in clients.read_to_end(settings, [Topics(settings).rankings]):
        ranking = messages.rankings.decode(record.value)
        causes[ranking.user_id].append((ranking.cause.partition, ranking.cause.offset))
    assert all(places == sorted(places) for places in causes.values())


def test_a_release_that_needs_no_data_serves_first_and_a_trained_one_that_beats_it_is_swapped_in(
    demo: tuple[dict[str, Any], Settings],
) -> None:
    summary, settings = demo
    bootstrap, *candidates = summary["releases"]
    accepted = [row["id"] for row in candidates if row["status"] != "rejected"]
    assert bootstrap["status"] == "retired", "a candidate was accepted"
    assert candidates[0]["id"] in accepted, "the first one, since it has learned and the bootstrap release has not"
    releases_by_partition = defaultdict(list)
    for record in clients.read_to_end(settings, [Topics(settings).rankings]):
        releases_by_partition[record.partition].append(messages.rankings.decode(record.value).release)
    order = [bootstrap["id"], *accepted]
    for releases in releases_by_partition.values():
        assert [name for name, _ in groupby(releases)] == order, "one after the other, and the accepted one last"
    assert list(summary["prequential"]["releases"]) == order


def test_a_trained_release_was_swapped_in_while_events_flowed(demo: tuple[dict[str, Any], Settings]) -> None:
    """Events are appended to the log before and after the first ranking by another release, within seconds of it."""
    summary, settings = demo
    first_release = summary["releases"][0]["id"]
    rankings = list(clients.read_to_end(settings, [Topics(settings).rankings]))
    swapped_ms = min(
        record.timestamp for record in rankings if messages.rankings.decode(record.value).release != first_release
    )
    events_ms = [record.timestamp for record in clients.read_to_end(settings, [Topics(settings).events])]
    assert any(swapped_ms - 5_000 < ms < swapped_ms for ms in events_ms)
    assert any(swapped_ms < ms < swapped_ms + 5_000 for ms in events_ms)


def test_every_candidate_is_announced_with_the_gates_numbers(demo: tuple[dict[str, Any], Settings]) -> None:
    summary, _ = demo
    assert len(summary["releases"]) == 3, "the bootstrap release, and a candidate of each re-share"
    for row in summary["releases"][1:]:
        assert row["reason"]
        assert {"ndcg_at_20_co_visit", "ndcg_at_20_minus_incumbent_low"} <= row["gate"].keys()


def test_the_gate_judged_no_two_releases_by_the_same_events(demo: tuple[dict[str, Any], Settings]) -> None:
    _, first, second = read_release_notices(demo[1]).newest.values()
    assert first.gate_from is not None and first.gate_to is not None
    assert second.gate_from is not None and second.gate_to is not None
    assert first.gate_from < first.gate_to <= second.gate_from < second.gate_to


def test_every_candidate_leaves_a_report_and_curves_beside_a_folder_as_its_manifest_says(
    demo: tuple[dict[str, Any], Settings],
) -> None:
    settings = demo[1]
    for name, notice in list(read_release_notices(settings).newest.items())[1:]:
        assert notice.reason is not None
        assert escape(notice.reason) in release.report_path(settings.data_dir, name).read_text("utf-8")
        assert [path.name for path in (settings.data_dir / "curves" / name).iterdir()]
        made = release.open_announced(settings.releases_dir, notice)
        made.verify()
        assert {path.name for path in made.folder.iterdir()} == {release.MANIFEST, *made.manifest.files}


def test_the_account_scores_everyone_on_the_same_events(demo: tuple[dict[str, Any], Settings]) -> None:
    summary, _ = demo
    prequential = summary["prequential"]
    parts = [*prequential["slices"].values(), *prequential["releases"].values(), *prequential["placements"].values()]
    for standing in (prequential, *parts):
        assert len({standing[name]["events"] for name in ("served", *BASELINES)}) == 1
    assert prequential["slices"].keys() >= {"repeat", "new_to_user", "first_of_session"}
    again, discover = prequential["placements"]["again"], prequential["placements"]["discover"]
    assert again["served"]["events"] == prequential["slices"]["repeat"]["served"]["events"]
    assert discover["served"]["events"] == prequential["slices"]["new_to_user"]["served"]["events"]
    assert discover["served"]["recall_at_20"] > prequential["slices"]["new_to_user"]["served"]["recall_at_20"]
    by_release = [standing["served"]["events"] for standing in prequential["releases"].values()]
    assert sum(by_release) == prequential["served"]["events"] <= summary["events_published"]
    assert min(by_release) > 0
    trained = prequential["releases"][summary["releases"][1]["id"]]
    assert trained["served"]["ndcg_at_20"] > trained["co_visit"]["ndcg_at_20"]


def test_speed_and_latency_were_measured(demo: tuple[dict[str, Any], Settings]) -> None:
    summary, _ = demo
    assert summary["events_per_second"] > 0
    assert 0 < summary["click_to_slate_ms"]["p50"] <= summary["click_to_slate_ms"]["p99"]
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"] <= summary["latency_ms"]["p99"]


def test_a_file_with_too_few_events_to_train_on_is_ranked_by_the_release_that_needs_no_data(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    rows = [f"{1_700_000_000 + 20 * number},v{number % 7},addtocart,i{number % 11}" for number in range(60)]
    events = tmp_path / "events.csv"
    events.write_text("\n".join(["timestamp,visitorid,event,itemid", *rows]) + "\n")
    summary, printed = _run(bootstrap_servers, tmp_path / "demo", "--events", str(events))
    assert summary["events_published"] == summary["events_ranked"] == len(rows) + CLICKS
    assert [row["status"] for row in summary["releases"]] == ["live"]
    assert "type addtocart: read as cart (60 rows)" in printed
    assert printed.count("no candidate, r0001 stays live") == 2, "each re-share says why it trained nothing"
    assert summary["prequential"]["served"]["events"] == len(rows) + CLICKS - 8, "a user's first event finds no slate"
