"""Small data sets through the served path: a planted pattern is learned, and the test is never trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anabranch.messages import Item
from anabranch.ranking.policy import Policy
from models.data.datasets import periods
from models.data.event_log import NONE, EventColumns, EventLog, NotEnoughData
from models.data.excluded_items import SlateRules
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.evaluation.summaries import Quality
from models.experiments import benchmark, continual
from models.experiments.benchmark import (
    OfflineBenchmark,
    leave_one_out_benchmark,
    repeats,
    session_benchmark,
    time_split_benchmark,
    validation_benchmark,
    with_new_items,
)
from models.experiments.choices import TrainingRows
from models.experiments.continual import TrainingMethod, configure, run_periods, weeks_of
from models.metrics.ranking import recall_at
from models.networks.list_ranker import ListRankerConfig
from models.pipeline.config import ReleaseCandidateConfig
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.training import Training
from tests.support.data_folders import Rows, write_folder

ITEMS = 30
DAY_MS = 24 * 3600 * 1000
METHODS: tuple[TrainingMethod, ...] = ("shared", "retrained", "fine_tuned")
CONFIG = ReleaseCandidateConfig(
    threads=1,
    quantise_text=False,
    policy=Policy(allow_session_repeats=True),
    seed_models=lambda config: [],
    strategies=(),
    training=Training(epochs=2, negatives=64, events_per_step=256, learning_rate=1e-2),
    list_ranker=ListRankerConfig(epochs=8, lists_per_step=16, learning_rate=1e-2),
)


def rounds(sessions: int, seed: int) -> Rows:
    """Sessions of five that go round the items in order, from anywhere."""
    begin = np.random.default_rng(seed).integers(ITEMS, size=sessions)
    return [(user, at, int((begin[user] + at) % ITEMS)) for user in range(sessions) for at in range(5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("rounds"), {"train": rounds(1000, 0), "test": rounds(20, 1)})


@pytest.fixture(scope="module")
def sessions(folder: Path) -> OfflineBenchmark:
    return session_benchmark(folder, CONFIG)


@pytest.fixture(scope="module")
def tested(sessions: OfflineBenchmark, tmp_path_factory: pytest.TempPathFactory) -> benchmark.BenchmarkRanks:
    scratch = tmp_path_factory.mktemp("made")
    release, _, _ = benchmark.make_release(sessions, scratch / "release", scratch)
    return benchmark.rank_test(sessions, benchmark.offline_ranker(sessions, release, scratch))


def test_every_step_after_the_first_of_each_test_session_is_predicted(tested: benchmark.BenchmarkRanks) -> None:
    assert len(tested.rank) == 20 * 4


def test_a_planted_pattern_is_learned(tested: benchmark.BenchmarkRanks) -> None:
    quality = Quality.from_ranks(tested.rank)
    assert quality.recall[5] > 0.9
    assert quality.mrr[20] > 0.7


def test_a_seed_model_alone_predicts_the_same_events(
    sessions: OfflineBenchmark, tested: benchmark.BenchmarkRanks
) -> None:
    rows, _ = benchmark.rows_of_test_users(sessions)
    rules = SlateRules(sessions.config.policy, sessions.config.layout)
    moments = prediction_points_before(sessions.log.take(rows), np.searchsorted(rows, tested.row), rules)
    assert ((moments.contexts.recent[:, 0] + 1) % ITEMS == tested.item).all()
    seed = sessions.config.co_visit_seed_model()
    seed.fit(sessions.train_log, np.zeros((ITEMS, 1), np.float32), lambda share: None)
    assert Quality.from_ranks(seed_ranks(seed, moments, tested.item, rules.slate)).recall[5] > 0.9


def test_what_tunes_never_sees_the_test(sessions: OfflineBenchmark) -> None:
    earlier = validation_benchmark(sessions)
    assert earlier.log.ts.max() < sessions.test_from
    assert earlier.order_from < earlier.test_from == sessions.order_from


@pytest.mark.parametrize("rows_to_learn", TrainingRows)
def test_leave_one_out_predicts_the_last_item_of_every_user(rows_to_learn: TrainingRows, tmp_path: Path) -> None:
    config = replace(CONFIG, policy=Policy(exclude_seen=True))
    made = leave_one_out_benchmark([histories_of_five(tmp_path / "rounds")], rows_to_learn, config)
    release, _, _ = benchmark.make_release(made, tmp_path / "release", tmp_path)
    found = benchmark.rank_test(made, benchmark.offline_ranker(made, release, tmp_path))
    assert len(found.rank) == 60
    assert not found.slices["repeat"].any()


def histories_of_five(folder: Path, validation_item: int | None = None) -> Path:
    """Rounds of five, as parts of leave-one-out; all validation events may be about one item."""
    rows = rounds(60, 0)
    parts = {
        "train": [row for row in rows if row[1] < 3],
        "val": [(user, 0, item if validation_item is None else validation_item) for user, at, item in rows if at == 3],
        "test": [(user, 0, item) for user, at, item in rows if at == 4],
    }
    return write_folder(folder, parts)


def test_on_rows_for_training_nothing_learns_from_a_validation_event_but_the_test_follows_it(tmp_path: Path) -> None:
    """Another validation item changes no file of the release, and changes what is ranked after it."""
    made = [
        leave_one_out_benchmark([histories_of_five(tmp_path / name, item)], TrainingRows.TRAIN, CONFIG)
        for name, item in (("real", None), ("other", 7))
    ]
    releases = [benchmark.make_release(one, tmp_path / f"release {one.name}", tmp_path)[0] for one in made]
    first, second = (release.manifest.files for release in releases)
    assert {name for name in first if first[name] != second[name]} == set()
    rankers = [benchmark.offline_ranker(one, release, tmp_path) for one, release in zip(made, releases, strict=True)]
    assert (rankers[0].neighbours.columns.weights == rankers[1].neighbours.columns.weights).all()
    ranks = [benchmark.rank_test(one, ranker).rank for one, ranker in zip(made, rankers, strict=True)]
    assert (ranks[0] != ranks[1]).any()


def test_on_rows_for_training_the_validation_test_is_the_validation_event(tmp_path: Path) -> None:
    made = leave_one_out_benchmark([histories_of_five(tmp_path / "rounds")], TrainingRows.TRAIN, CONFIG)
    earlier = validation_benchmark(made)
    assert len(earlier.log) - earlier.start == 60
    assert len(earlier.train_log) == len(made.train_log) == 60 * 3
    assert earlier.order_from == made.order_from < made.trained_until


def test_new_items_have_no_event_in_training_and_a_slice_of_the_test(
    sessions: OfflineBenchmark, tmp_path: Path
) -> None:
    made = with_new_items(sessions, 0.25)
    new = np.setdiff1d(np.arange(ITEMS), made.train_log.item)
    assert len(new) == round(ITEMS / 4)
    assert (with_new_items(sessions, 0.25).log.item == made.log.item).all(), "every training has the same new items"
    known = sessions.train_log.take(~np.isin(sessions.train_log.item, new))
    assert (made.train_log.item == known.item).all()
    assert (made.log.item[made.start :] == sessions.log.item[sessions.start :]).all()
    release, _, _ = benchmark.make_release(made, tmp_path / "release", tmp_path)
    found = benchmark.rank_test(made, benchmark.offline_ranker(made, release, tmp_path))
    assert (found.slices["new_items"] == np.isin(found.item, new)).all()


@pytest.mark.parametrize("method", ["shared", "co_visit"])
def test_each_period_is_predicted_from_those_before(method: TrainingMethod, tmp_path: Path) -> None:
    logs, items = periods(write_folder(tmp_path / "data", {f"period_0{at}": rounds(60, at) for at in range(3)}))
    found = list(run_periods(logs, items, CONFIG, method, tmp_path, tmp_path))
    assert [period.number for period in found] == [1, 2]
    assert all(len(period.ranks.rank) == 60 * 4 for period in found)


def test_a_period_is_also_predicted_by_the_releases_of_periods_before(tmp_path: Path) -> None:
    """The rounds turn the other way in the last two periods: a release of before knows nothing of that."""
    forth = [rounds(60, at) for at in range(2)]
    back = [[(user, at, ITEMS - 1 - item) for user, at, item in rounds(60, at)] for at in range(2, 4)]
    folder = write_folder(tmp_path / "data", {f"period_0{at}": rows for at, rows in enumerate([*forth, *back])})
    logs, items = periods(folder)
    found = list(run_periods(logs, items, CONFIG, "shared", tmp_path, tmp_path))
    assert [list(period.by_stale_release) for period in found] == [[], [1], [1, 2]]
    newest, stale = found[-1].ranks.rank, found[-1].by_stale_release[2]
    assert recall_at(newest, 1) > recall_at(stale, 1)


def test_a_log_is_divided_into_its_first_share_and_whole_weeks() -> None:
    days = np.arange(40)
    columns = EventColumns(days * 0, days * 0, days * 0, days * DAY_MS, np.full(40, NONE))
    log = EventLog.from_columns(columns, user_ids=("u",), item_ids=("i",))
    assert [len(part) for part in weeks_of(log, 0.5)] == [20, 7, 7]
    with pytest.raises(NotEnoughData, match=r"the first 90% of the events, there is no whole week with events"):
        weeks_of(log, 0.9)


@pytest.mark.parametrize("method", ["shared", "retrained"])
def test_every_method_trains_the_list_ranker_on_the_same_window(
    method: TrainingMethod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the newest period, also for a release that is trained anew; of the first, what the encoder leaves."""
    windows: list[int] = []
    train = continual.make_release

    def make_release(benchmark: OfflineBenchmark, *rest: Any, **named: Any) -> Any:
        windows.append(len(benchmark.inputs().after))
        return train(benchmark, *rest, **named)

    monkeypatch.setattr(continual, "make_release", make_release)
    logs, items = periods(write_folder(tmp_path / "data", {f"period_0{at}": rounds(20, at) for at in range(3)}))
    config = replace(CONFIG, training=replace(CONFIG.training, epochs=1), list_ranker=ListRankerConfig(epochs=1))
    list(run_periods(logs, items, config, method, tmp_path, tmp_path))
    assert windows == [20, 100]


def test_fine_tuning_sees_nothing_old_again_and_only_sharing_has_strategies() -> None:
    config = replace(CONFIG, strategies=(TextGeometry(),))
    made = {method: configure(config, method) for method in METHODS}
    assert {way: bool(one.strategies) for way, one in made.items()} == {
        "shared": True,
        "retrained": False,
        "fine_tuned": False,
    }
    assert made["fine_tuned"].training.replay == 0 < made["shared"].training.replay


def test_an_event_repeats_what_its_user_had_before() -> None:
    log = EventLog.from_columns(
        EventColumns(np.array([0, 1, 0, 0]), np.array([3, 3, 3, 2]), np.zeros(4), np.arange(4), np.full(4, -1)),
        user_ids=("a", "b"),
        item_ids=tuple("0123"),
    )
    assert repeats(log).tolist() == [False, False, True, False]


def test_events_at_too_few_different_times_cannot_be_split() -> None:
    """A column of dates is often the only time there is."""
    count = 100
    columns = EventColumns(
        *(np.zeros(count, np.int64) for _ in range(3)), np.full(count, 10**12), np.zeros(count, np.int64)
    )
    log = EventLog.from_columns(columns, user_ids=("u",), item_ids=("i",))
    with pytest.raises(
        NotEnoughData, match=r"100 events lie from 2001-09-09T01:46:40Z .* 0 to learn from, 0 .* 100 to test"
    ):
        time_split_benchmark("shop", log, [Item(item_id="i", title="Mug")], 0.8, CONFIG)


def test_no_events_cannot_be_split() -> None:
    with pytest.raises(NotEnoughData, match="shop holds no events"):
        time_split_benchmark("shop", EventLog.from_events([]), [], 0.8, CONFIG)
