"""Figures of benchmarks, and the states they make up."""

from __future__ import annotations

import sys
import time
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from anabranch.errors import UsageError
from anabranch.harness.bench.catalogue import NOISE, add_noise, max_households
from anabranch.harness.bench.figures.plots import curves, draw
from anabranch.harness.bench.figures.statistics import Rate, percentiles, rate_by_segment, spread
from anabranch.harness.bench.figures.table import BENCHMARKS, BenchAllConfig, measure, rows, show
from anabranch.harness.bench.idle import cpu_shares
from anabranch.harness.bench.neighbours import freshness_ms, pairs_among
from anabranch.harness.bench.noop_loop import NoopWork
from anabranch.harness.bench.streaming import repeat_forever
from anabranch.harness.bench.swap import mixes_releases
from anabranch.harness.environment.processes import ChildProcess, Processes, ProcessFailed
from anabranch.harness.environment.reconciliation import LoggedRanking
from anabranch.messages import Cause, Event, Ranking
from producers import completejourney


def test_a_figure_comes_with_its_spread() -> None:
    assert spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "sd": 1.0, "min": 1.0, "max": 3.0}
    assert spread([4.0])["sd"] == 0


def test_percentiles_are_those_of_numpy_and_the_largest() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentiles(values) == {"p50": 50.5, "p95": np.percentile(values, 95), "p99": np.percentile(values, 99)} | {
        "max": 100.0
    }


def test_speed_counts_from_the_first_message_on() -> None:
    assert Rate.from_append_times(list(range(5_000, 6_000, 10))) == (pytest.approx(101, abs=1), pytest.approx(0.99))
    assert Rate.from_append_times([7]).per_second == pytest.approx(1000), "a millisecond is the least that can be told"


def test_the_speed_of_a_stretch_counts_from_the_end_of_the_one_before() -> None:
    slow, fast = range(5_000, 6_000, 10), range(6_000, 6_500, 5)
    assert rate_by_segment([*fast, *slow], 2) == [pytest.approx(101, abs=1), pytest.approx(198, abs=1)]


@pytest.mark.parametrize(("releases", "mixes"), [("aab", False), ("a", False), ("aba", True), ("abba", True)])
def test_a_partition_that_comes_back_to_a_release_mixes_two(releases: str, mixes: bool) -> None:
    cause = Cause(event_id="e", partition=0, offset=0, ts=0)
    answers = [LoggedRanking(Ranking(user_id="u", release=name, cause=cause, slate=[], ts=0), 0) for name in releases]
    assert mixes_releases(answers) is mixes


def test_an_item_that_is_made_up_stands_beside_a_real_one_and_is_as_long() -> None:
    random = np.random.default_rng(0)
    real = random.normal(size=(50, 16)).astype(np.float32)
    noisy = add_noise(real, random)
    lengths = np.linalg.norm(real, axis=1)
    np.testing.assert_allclose(np.linalg.norm(noisy, axis=1), lengths, rtol=1e-5)
    np.testing.assert_allclose((noisy * real).sum(axis=1) / lengths**2, 1 / np.hypot(1, NOISE), atol=0.15)


def test_households_are_as_many_as_buy_no_more_than_so_many_items() -> None:
    bought = {1: 3, 2: 5, 3: 9}
    for items, households in ((2, 1), (3, 1), (5, 2), (8, 2), (100, 3)):
        assert max_households(_Purchases(bought), items, random_seed=0) == households


class _Purchases:
    """Of three households; how many items so many of them buy."""

    def __init__(self, bought: dict[int, int]) -> None:
        self.user = np.array([0, 0, 1, 2])
        self._of_households = bought
        self._bought = 0

    def of_households(self, households: int, seed: int) -> _Purchases:
        self._bought = self._of_households[households]
        return self

    def bought(self) -> set[str]:
        return set(map(str, range(self._bought)))


def test_what_is_to_be_echoed_comes_back_from_its_file(tmp_path: Path) -> None:
    echoed = NoopWork("group", {0: 0, 1: 7, 2: 0}, 100, [(b"ranking", b"feedback")])
    echoed.write(tmp_path / "echoed")
    assert NoopWork.read(tmp_path / "echoed") == echoed
    assert echoed.first_offsets == {0: 0, 1: 7, 2: 0}


def test_a_file_that_holds_no_echo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "echoed").write_bytes(msgspec.msgpack.encode({"group": "group", "events": 0}))
    with pytest.raises(msgspec.ValidationError):
        NoopWork.read(tmp_path / "echoed")


def _spread(mean: float) -> dict[str, float]:
    return {"mean": mean, "sd": mean / 100, "min": mean, "max": mean}


def _latency(p99: float, partitions: int, rankers: int) -> dict[str, Any]:
    return {
        "machine": {"partitions": partitions},
        "plan": {"rate": 4_000, "rankers": rankers},
        "events_per_second_at_full_speed": 8_000.0,
        "ranker_ms": {"p99": _spread(p99)},
        "echo_ms": {"p99": _spread(40)},
    }


FIGURES = {
    "throughput": {
        "plan": {"rankers": 1},
        "events_per_second": _spread(8_000),
        "echo_events_per_second": {"512": _spread(14_000), "2048": _spread(16_000)},
        "share_of_best_echo": _spread(0.5),
        "kernel_share": _spread(0.6),
    },
    "two-rankers": {"plan": {"rankers": 2}, "events_per_second": _spread(12_800)},
    "latency": _latency(60, partitions=4, rankers=1),
    "latency-two-rankers": _latency(50, partitions=4, rankers=2),
    "latency-16-partitions": _latency(70, partitions=16, rankers=1),
    "items": {
        "sizes": [
            {"items": items, "events_per_second": _spread(speed), "recall_at_100": 0.97}
            | {"found_after_ms": _spread(90), "gone_after_ms": _spread(90)}
            | {"calm_ms": {"p99": _spread(30)}, "p99_of_rebuilding_against_calm": _spread(1.5)}
            for items, speed in ((10_000, 9_000), (68_492, 8_000), (1_000_000, 4_400))
        ]
    },
    "users": {
        "machine": {"partitions": 4},
        "plan": {"rate": 1000.0},
        "users": [
            {"users": users, "memory_bytes_per_user": {"mean": 900}, "resident_bytes": _spread(users * 1100.0)}
            | {"seconds": _spread(users / 25_000), "events_per_second": _spread(7_000), "steady_ms": {"p99": 35.0}}
            for users in (10_000, 1_000_000)
        ],
    },
    "swap": {"pause_ms": _spread(150), "without_swap_ms": {"p99": 60}, "partitions_that_mixed_releases": 0},
    "idle": {
        "cpu_share": {"ranker": _spread(0.012), "indexer": _spread(0.025), "echo": _spread(0.008)},
        "next_event_ms": {"ranker": _spread(15), "echo": _spread(9)},
    },
    "serve": {
        "plan": {"rate": 200.0},
        "requests_per_second": _spread(1_100),
        "probes_per_second": _spread(3_000),
        "latency_ms": {"p99": _spread(40)},
    },
}


def test_the_table_holds_each_figure_against_its_bar() -> None:
    table = {row.name: row for row in rows(FIGURES)}
    missed = [row.name for row in table.values() if not row.met]
    assert missed == [
        "events/s, one ranker",
        "p99 at 4,000 events/s",
        "CPU of an idle indexer",
        "p99 at 200 requests/s",
    ]
    assert table["two rankers / one ranker"].figure == pytest.approx(1.6)
    assert table["events/s with 1,000,000 items / 68,492"].figure == pytest.approx(0.55)
    assert table["restore of a partition with 250,000 users"].figure == pytest.approx(10)
    assert table["GB with 1,000,000 users"].figure == pytest.approx(1.1)
    assert table["events/s, one ranker"].baseline == "no-op 16,000"
    assert table["CPU of an idle ranker"].figure == pytest.approx(1.2), "percent of a core"
    assert table["CPU of an idle ranker"].baseline == "no-op 0.8 %"
    assert table["requests/s, one server"].baseline == "probes 3,000"


def test_the_table_is_printed_with_spread_and_verdict() -> None:
    console = Console(width=160, record=True, file=StringIO())
    show(FIGURES, console)
    line = next(line for line in console.export_text().splitlines() if "events/s, one ranker" in line)
    assert "8,000 ± 80" in line and "at least 10,000" in line and "missed" in line


def test_what_has_been_run_is_not_run_again_also_with_the_release_it_kept(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "release" / "r1").mkdir(parents=True)
    for name in BENCHMARKS:
        (tmp_path / "figures" / f"{name}.json").write_bytes(msgspec.json.encode({"of": name}))
    config = BenchAllConfig(tmp_path, tmp_path / "release", repeats=1)
    assert measure(config) == {name: {"of": name} for name in BENCHMARKS}


def test_a_growth_curve_is_of_the_figures_that_differ_in_what_grows() -> None:
    by_name = {curve.name: curve for curve in curves(FIGURES)}
    assert next((point.size, point.per_second) for point in by_name["items"].points) == (10_000, 9_000)
    assert [(point.size, point.p99_ms) for point in by_name["users"].points] == [(10_000, 35), (1_000_000, 35)]
    assert [(point.size, point.p99_ms) for point in by_name["partitions"].points] == [(4, 60), (16, 70)]
    assert [(point.size, point.p99_ms) for point in by_name["rankers"].points] == [(1, 60), (2, 50)]
    assert [point.per_second for point in by_name["rankers"].points] == [8_000, 12_800], (
        "over all backlogs, not the one"
    )


def test_every_curve_whose_figures_are_kept_is_drawn(tmp_path: Path) -> None:
    for name in ("items", "latency", "latency-two-rankers"):
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(FIGURES[name]))
    drawn = list(draw(tmp_path, tmp_path / "growth"))
    assert [path.name for path in drawn] == ["items.svg", "rankers.svg"]
    assert all(path.read_text().count("<svg") == 1 for path in drawn)


def test_the_cpu_share_of_a_process_is_what_it_uses_of_one_core(tmp_path: Path) -> None:
    half_busy = """
import time
while True:
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    time.sleep(0.05)
"""
    with Processes({}, tmp_path) as processes:
        waiting, working = (
            processes.add(ChildProcess(name, [sys.executable, "-c", code], tmp_path / name))
            for name, code in (("waiting", "import time; time.sleep(60)"), ("working", half_busy))
        )
        time.sleep(0.5)
        shares = cpu_shares({"waiting": waiting, "working": working}, seconds=1.0)
        assert shares["waiting"] < 0.05
        assert 0.1 < shares["working"] <= 0.6
        working.kill()
        with pytest.raises(ProcessFailed, match="working"):
            cpu_shares({"working": working}, seconds=0.1)


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch.harness.bench.figures.plots.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        list(draw(tmp_path, tmp_path / "growth"))


def test_a_stream_without_end_repeats_the_purchases_as_other_events_later() -> None:
    purchases = completejourney.purchases(random_seed=0).of_households(1, random_seed=0)
    n = len(purchases)
    events = list(islice(repeat_forever(purchases), 3 * n))
    assert events[:n] == list(purchases.events())
    assert [event.item_id for event in events] == [event.item_id for event in events[:n]] * 3
    assert len({event.event_id for event in events}) == 3 * len({event.event_id for event in events[:n]})
    assert [event.ts for event in events] == sorted(event.ts for event in events)


def test_among_the_events_so_many_users_buy_a_new_pair_together_at_a_steady_distance() -> None:
    stream = [Event(event_id=f"e{n}", user_id="u", type="purchase", item_id="old", ts=n) for n in range(5)]
    mixed = list(pairs_among(stream, every=2, users=3))
    assert [event for event in mixed if event.item_id == "old"] == stream
    first = mixed[2:8]
    assert [event.item_id for event in first] == 3 * ["pair-0-left", "pair-0-right"]
    assert len({event.user_id for event in first}) == len({event.session_id for event in first}) == 3
    assert {event.item_id for event in mixed[-6:]} == {"pair-2-left", "pair-2-right"}


def test_a_pair_is_as_fresh_as_its_first_row_after_its_last_event() -> None:
    assert freshness_ms({"a": 1_000, "b": 2_000}, {"a": 1_400, "b": 2_900}) == [400.0, 900.0]
    with pytest.raises(UsageError, match="1 of 2 new items have no row"):
        freshness_ms({"a": 1_000, "b": 2_000}, {"a": 1_400})
