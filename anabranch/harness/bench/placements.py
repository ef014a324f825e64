"""What placements cost: one ranker on backlogs of the same kind, by turns with one placement and with more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from anabranch.harness.bench.figures.statistics import spread
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.throughput import rank_backlog
from anabranch.messages import Event
from anabranch.placements import DISCOVER, EACH_CLASS, FOR_YOU, AtMost, Placement

ONE = "one placement"
CALIBRATED = Placement(name=FOR_YOU.name, calibration=0.1)
LIMITED = Placement(name=FOR_YOU.name, at_most=AtMost(category=3))
VARIANTS: Mapping[str, Mapping[str, object]] = {
    ONE: {"placements": (FOR_YOU,)},
    "three placements": {"placements": EACH_CLASS},
    "two placements, the second without the first": {
        "placements": (FOR_YOU, msgspec.structs.replace(DISCOVER, without=(FOR_YOU.name,)))
    },
    "one placement, at most 3 of a category": {"placements": (LIMITED,)},
    "one placement, calibrated": {"placements": (CALIBRATED,)},
    "one placement, one explored place": {"placements": (FOR_YOU,), "explore_places": 1},
    "one placement, one explored place with new items": {
        "placements": (FOR_YOU,),
        "explore_places": 1,
        "explore_new_items": 5,
    },
}
"""Settings of the ranker by what is measured."""


@dataclass(frozen=True)
class PlacementsConfig:
    """How much is measured."""

    repeats: int
    events: int
    """Backlog ranked at full load, per repeat and variant."""
    batch: int
    """The ranker's `batch_max`."""


def run(fixture: BenchFixture, config: PlacementsConfig) -> dict[str, Any]:
    """Events per second of each variant, and as a share of that of one placement in the same repeat."""
    events = fixture.testbed.ahead.events()
    fixture.commit_start()
    _rank(fixture, config, events, ONE)  # not counted: it fills the operating system's caches
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(config.repeats):
        for name in VARIANTS:
            rates[name].append(_rank(fixture, config, events, name))
    return {
        "what": "events per second of one ranker, by its placements",
        "machine": fixture.machine,
        "plan": asdict(config),
        "events_per_second": {name: spread(values) for name, values in rates.items()},
        "share_of_one_placement": {
            name: spread([rate / alone for rate, alone in zip(values, rates[ONE], strict=True)])
            for name, values in rates.items()
        },
    }


def _rank(fixture: BenchFixture, config: PlacementsConfig, events: Iterator[Event], name: str) -> float:
    """Events per second over the next backlog."""
    first_offsets = fixture.end_offsets()
    fixture.publish_next(events, config.events)
    return rank_backlog(fixture, config.batch, first_offsets, settings=VARIANTS[name]).per_second
