"""Data with time stamps for the results: real purchases, in files that `anabranch evaluate` reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anabranch.harness.results.timed_data import HOUSEHOLDS
from models.experiments.choices import EvaluationProtocol
from models.experiments.input_data import InputFiles
from producers import completejourney


def test_the_purchases_of_the_package_are_written_once_and_read_with_their_times(tmp_path: Path) -> None:
    households = replace(HOUSEHOLDS, weeks=(1, 1))
    households.prepare(tmp_path)
    [_, events, _, items] = households.arguments(tmp_path)
    files = InputFiles([Path(events)], Path(items))
    files.check(EvaluationProtocol.TIME_SPLIT)
    log, catalogue = files.read_log()
    purchases = completejourney.purchases(random_seed=0, weeks=(1, 1))
    assert log.ts.tolist() == purchases.ts.tolist()
    assert {item.item_id for item in catalogue} <= purchases.bought()
    assert len(set(log.session.tolist())) == len(set(purchases.session.tolist()))
    written = Path(events).stat().st_mtime_ns
    households.prepare(tmp_path)
    assert Path(events).stat().st_mtime_ns == written
