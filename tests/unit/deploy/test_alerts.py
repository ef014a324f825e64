"""Every alert fires when it should and clears when it should, and asks for metrics that a process exports."""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from anabranch.metrics import (
    ProcessMetrics,
    RankerMetrics,
    ReshareMetrics,
    release_info,
)
from consumers.api.routes.metrics import ApiMetrics
from consumers.indexer.metrics import IndexerMetrics
from consumers.neighbours.metrics import NeighboursMetrics
from producers.collector.metrics import CollectorMetrics
from tests.support.promtool import PromtoolMissing, find_promtool

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
JOBS: dict[str, Callable[[CollectorRegistry], ProcessMetrics]] = {
    "collector": CollectorMetrics,
    "server": lambda registry: ApiMetrics(registry, "events"),
    "ranker": RankerMetrics,
    "indexer": IndexerMetrics,
    "neighbours": NeighboursMetrics,
    "reshare": ReshareMetrics,
}
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus adds to every series."""
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"], "gauge": [""]}


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


RULES: list[dict[str, Any]] = [rule for group in load("alerts.yml")["groups"] for rule in group["rules"]]
NAMES = [rule["alert"] for rule in RULES]
SCENARIO_FILES = ("alerts.test.yml", "alerts-of-days.test.yml")
SCENARIOS: list[dict[str, Any]] = [scenario for name in SCENARIO_FILES for scenario in load(name)["tests"]]


# --- with the rules of a real Prometheus ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return find_promtool()
    except PromtoolMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def run(promtool: Path, *arguments: str, folder: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_every_alert_fires_and_clears_as_its_scenarios_say(promtool: Path) -> None:
    tested = run(promtool, "test", "rules", *SCENARIO_FILES)

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", NAMES)
def test_an_alert_has_a_scenario_in_which_it_fires_and_then_clears(alert: str) -> None:
    assert any(_fires_and_clears(scenario, alert) for scenario in SCENARIOS)


def _fires_and_clears(scenario: dict[str, Any], alert: str) -> bool:
    """Whether the alert is silent, then fires, then is silent again."""
    asked = [case for case in scenario["alert_rule_test"] if case["alertname"] == alert]
    minutes = [_minutes(case["eval_time"]) for case in asked]
    fires = [bool(case["exp_alerts"]) for case in asked]
    return minutes == sorted(minutes) and True in fires and not fires[0] and not fires[-1]


def _minutes(duration: str) -> float:
    return promql_parser.parse_duration(duration).total_seconds() / 60


# --- what a new installation exports ----------------------------------------------------------------------------------


def test_a_new_installation_raises_no_alert_but_that_nothing_ranks_and_answers(promtool: Path, tmp_path: Path) -> None:
    """With the very series that the processes export at their start, which do not change for a day."""
    series = [
        {"series": f'{{__name__="{sample}",{_matchers(labels)}}}', "values": f"{value:g}x200"}
        for job, metrics in JOBS.items()
        for sample, labels, value in _exported_at_start(job, metrics)
    ]
    silent = [name for name in NAMES if name not in ("NoRankerReady", "NoServerReady", "NotReady")]
    asked = [
        {"alertname": name, "eval_time": f"{minutes}m", "exp_alerts": []} for name in silent for minutes in (1, 20, 180)
    ]
    scenario = {"interval": "1m", "input_series": series, "alert_rule_test": asked}
    test = {"rule_files": [str(DEPLOY / "alerts.yml")], "evaluation_interval": "1m", "tests": [scenario]}
    (tmp_path / "new.test.yml").write_text(yaml.safe_dump(test), "utf-8")

    tested = run(promtool, "test", "rules", "new.test.yml", folder=tmp_path)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def _exported_at_start(
    job: str, metrics: Callable[[CollectorRegistry], ProcessMetrics]
) -> Iterator[tuple[str, dict[str, str], float]]:
    registry = CollectorRegistry()
    process = metrics(registry)
    if job == "collector":
        process.loop.turned(None)  # it is ready without a release
    of_prometheus = {"job": job, "instance": f"{job}-1"}
    yield "up", of_prometheus, 1.0
    for family in registry.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created") and sample.value == sample.value:  # promtool writes no NaN
                yield sample.name, {**sample.labels, **of_prometheus}, sample.value


def _matchers(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


# --- how the rules are written ----------------------------------------------------------------------------------------


class NotingRegistry(CollectorRegistry):
    """Keeps the metrics that are registered: a family without children does not say which labels it has."""

    def __init__(self) -> None:
        super().__init__()
        self.collectors: list[Collector] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.collectors.append(collector)


def exported() -> dict[str, set[str]]:
    """The labels of every series that a process of ours exports, by name, and of `up`, which is Prometheus's own."""
    labels: dict[str, set[str]] = defaultdict(set, up=set())
    for metrics in JOBS.values():
        registry = NotingRegistry()
        metrics(registry)
        for collector in registry.collectors:
            for family in collector.collect():
                for suffix in SUFFIXES[family.type]:
                    name = family.name + suffix
                    labels[name] |= {*getattr(collector, "_labelnames", ()), *(["le"] if suffix == "_bucket" else [])}
    labels["anabranch_live_release_info"] |= release_info("", {}, 0).keys()
    return {name: names | OF_PROMETHEUS for name, names in labels.items()}


EXPORTED = exported()


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_asks_for_metrics_that_are_exported_with_labels_that_they_have(rule: dict[str, Any]) -> None:
    selectors = list(selected(promql_parser.parse(rule["expr"])))
    assert selectors
    for selector in selectors:
        assert selector.name in EXPORTED
        assert {matcher.name for matcher in selector.matchers.matchers} <= EXPORTED[selector.name]
    of_some = set[str]().union(*(EXPORTED[selector.name] for selector in selectors))
    assert {
        label for by in re.findall(r"\b(?:by|on) \(([\w, ]+)\)", rule["expr"]) for label in by.split(", ")
    } <= of_some


def test_scenarios_have_series_that_are_exported_with_all_of_their_labels() -> None:
    for scenario in SCENARIOS:
        for series in scenario["input_series"]:
            selector = promql_parser.parse(series["series"])
            labels = {matcher.name for matcher in selector.matchers.matchers}
            without_release = labels == OF_PROMETHEUS and selector.name == "anabranch_live_release_info"
            assert labels == EXPORTED[selector.name] or without_release, series["series"]


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_is_written_whole(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "runbook"}
    if "for" in rule:
        promql_parser.parse_duration(rule["for"])


def test_alerts_have_different_names() -> None:
    assert len(NAMES) == len(set(NAMES))


# --- the runbook ------------------------------------------------------------------------------------------------------


def test_every_alert_has_its_row_in_the_runbook_that_it_names_and_no_row_is_without_an_alert() -> None:
    (place,) = {rule["annotations"]["runbook"] for rule in RULES}
    document, _, section = place.partition("#")
    text = (ROOT / document).read_text("utf-8")
    headings = {heading.lower().replace(" ", "-"): heading for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    table = text.partition(f"\n## {headings[section]}\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| `")
    ]

    assert [row[0].strip("`") for row in rows] == NAMES, "in the order of the rules"
    assert all(len(row) == 4 and all(row) for row in rows), "alert | means | look at | do"


def selected(expression: Any) -> Iterator[Any]:
    """Every selector of an expression."""
    found: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(expression, visit)
    yield from found
