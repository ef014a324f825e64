"""The demo, small, end to end: a broker, and every part of the loop as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import groupby
from typing import Any

import msgspec
import pytest
from markupsafe import escape

from anabranch import messages, release
from anabranch.kafka import clients
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from producers import completejourney

HOUSEHOLDS, HISTORY_WEEKS, REPLAY_WEEKS, SEED = 200, 6, 2, 3
BASELINES = ("popularity", "personal_frequency", "co_visit")


@pytest.fixture(scope="module")
def demo(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Settings]:
    """The summary of a demo that ended well, and settings to read its topics with."""
    data_dir = tmp_path_factory.mktemp("demo")
    sizes = {"--households": HOUSEHOLDS, "--history-weeks": HISTORY_WEEKS, "--replay-weeks": REPLAY_WEEKS}
    options = [str(part) for pair in sizes.items() for part in pair]
    where = ["--bootstrap-servers", bootstrap_servers, "--data-dir", str(data_dir), "--seed", str(SEED)]
    command = [sys.executable, "-m", "anabranch", "demo", *where, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "160"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = msgspec.json.decode((data_dir / "summary.json").read_bytes())
    place = {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
    return summary, Settings(**place, topic_prefix=summary["topic_prefix"])


pytestmark = pytest.mark.timeout(900)


def _replayed() -> list[str]:
    last = HISTORY_WEEKS + REPLAY_WEEKS
    purchases = completejourney.purchases(SEED, (1, last)).of_households(HOUSEHOLDS, SEED)
    return [event.event_id for event in purchases.in_weeks(HISTORY_WEEKS + 1, last).events()]


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
    assert answers == Counter(_replayed())
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


def test_every_release_is_announced_with_the_gates_numbers(demo: tuple[dict[str, Any], Settings]) -> None:
    summary, _ = demo
    assert [row["status"] for row in summary["releases"]] in (["live", "rejected"], ["retired", "live"])
    for row in summary["releases"]:
        assert row["reason"] and "ndcg_at_20_minus_co_visit_low" in row["gate"]
    assert "ndcg_at_20_minus_incumbent_low" in summary["releases"][1]["gate"]


def test_the_ranker_serves_each_release_that_the_gate_accepted_and_no_other(
    demo: tuple[dict[str, Any], Settings],
) -> None:
    summary, settings = demo
    first, second = ((row["id"], row["status"]) for row in summary["releases"])
    releases_by_partition = defaultdict(list)
    for record in clients.read_to_end(settings, [Topics(settings).rankings]):
        releases_by_partition[record.partition].append(messages.rankings.decode(record.value).release)
    order = [first[0], second[0]] if second[1] == "live" else [first[0]]
    for releases in releases_by_partition.values():
        assert [name for name, _ in groupby(releases)] == order, "one after the other, and the accepted one last"
    assert list(summary["prequential"]["releases"]) == order


def test_the_gate_judged_no_two_releases_by_the_same_events(demo: tuple[dict[str, Any], Settings]) -> None:
    first, second = read_release_notices(demo[1]).newest.values()
    assert first.gate_from is not None and first.gate_to is not None
    assert second.gate_from is not None and second.gate_to is not None
    assert first.gate_from < first.gate_to <= second.gate_from < second.gate_to


def test_every_release_leaves_a_report_and_curves_beside_a_folder_as_its_manifest_says(
    demo: tuple[dict[str, Any], Settings],
) -> None:
    settings = demo[1]
    for name, notice in read_release_notices(settings).newest.items():
        assert notice.reason is not None
        assert escape(notice.reason) in release.report_path(settings.data_dir, name).read_text("utf-8")
        assert [path.name for path in (settings.data_dir / "curves" / name).iterdir()]
        made = release.open_announced(settings.releases_dir, notice)
        made.verify()
        assert {path.name for path in made.folder.iterdir()} == {release.MANIFEST, *made.manifest.files}


def test_the_account_scores_everyone_on_the_same_events(demo: tuple[dict[str, Any], Settings]) -> None:
    summary, _ = demo
    prequential = summary["prequential"]
    for standing in (prequential, *prequential["slices"].values(), *prequential["releases"].values()):
        assert len({standing[name]["events"] for name in ("served", *BASELINES)}) == 1
    assert prequential["slices"].keys() == {"repeat", "new_to_user", "first_of_session"}
    assert 0 < prequential["served"]["events"] <= summary["events_published"]
    assert prequential["served"]["ndcg_at_20"] > prequential["co_visit"]["ndcg_at_20"]


def test_speed_and_latency_were_measured(demo: tuple[dict[str, Any], Settings]) -> None:
    summary, _ = demo
    assert summary["events_per_second"] > 0
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"] <= summary["latency_ms"]["p99"]
