"""Which part of the product may import which, as docs/architecture.md draws it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest

from tests.support.import_graph import (
    COMPOSITION_ROOTS,
    ROOT,
    classes,
    folder_imports,
    imported_names,
    imports,
    reachable,
    sources,
    strongly_connected,
    within,
)

CORE = ("anabranch", "anabranch.ranking")
RANKING = (
    *CORE,
    "anabranch.ranking.user_state",
    "anabranch.ranking.inference",
    "anabranch.ranking.retrieval",
    "anabranch.ranking.rules",
    "anabranch.ranking.pipeline",
    "anabranch.ranking.reasons",
)
LEARNING = ("anabranch.co_visit", *RANKING)
FOLLOWERS = ("anabranch.kafka", "consumers.runtime", "consumers.user_states", "consumers.releases", *RANKING)
ROOMS_OF_MODELS = (
    "models",
    "models.data",
    "models.metrics",
    "models.networks",
    "models.co_visit",
    "models.knn",
    "models.seeds",
    "models.sharing",
    "models.offline",
    "models.evaluation",
    "models.pipeline",
    "models.gate",
    "models.report",
    "models.experiments",
)
"""Each room may import the ones before it."""
MAY_IMPORT = {
    "anabranch": (),
    "anabranch.kafka": ("anabranch",),
    "anabranch.inspection": ("anabranch.kafka", *RANKING),
    "anabranch.ranking": ("anabranch",),
    "anabranch.ranking.user_state": CORE,
    "anabranch.ranking.inference": CORE,
    "anabranch.ranking.retrieval": (*CORE, "anabranch.ranking.user_state"),
    "anabranch.ranking.rules": (*CORE, "anabranch.ranking.retrieval"),
    "anabranch.ranking.pipeline": RANKING,
    "anabranch.ranking.reasons": RANKING,
    "anabranch.co_visit": (*CORE, "anabranch.ranking.user_state"),
    "producers": ("anabranch", "anabranch.kafka"),
    "consumers": ("anabranch", "anabranch.kafka", "consumers.runtime"),
    "consumers.runtime": ("anabranch.kafka", *RANKING),
    "consumers.user_states": ("anabranch.kafka", "consumers.runtime", *RANKING),
    "consumers.releases": ("anabranch.kafka", "consumers.runtime", "consumers.user_states", *RANKING),
    "consumers.neighbours": ("anabranch.kafka", "anabranch.co_visit", "consumers.runtime", *RANKING),
    "consumers.indexer": ("anabranch.kafka", "consumers.runtime", *RANKING),
    "consumers.ranker": FOLLOWERS,
    "consumers.replica": FOLLOWERS,
    "consumers.api": ("consumers.replica", *FOLLOWERS),
    **{
        room: ("anabranch.co_visit", *RANKING, *ROOMS_OF_MODELS[:number]) for number, room in enumerate(ROOMS_OF_MODELS)
    },
    "models.retraining": ("anabranch.kafka", "anabranch.co_visit", *ROOMS_OF_MODELS, *RANKING),
}
"""Area → the other areas that its modules may import. A module belongs to the area with the longest name that fits.
The composition roots put everything together, and are no areas."""

AREAS = (*MAY_IMPORT, *COMPOSITION_ROOTS)
KAFKA_PYTHON_USERS = (
    "anabranch.kafka",
    "anabranch.inspection",
    "anabranch.harness",
    "consumers",
    "producers",
    "models.retraining",
)
SERVERS = {
    "rank": "anabranch.cli.rank, consumers.ranker.ranker",
    "index": "anabranch.cli.index, consumers.indexer.indexer",
    "collect": "anabranch.cli.collect, producers.collector.collector",
    "serve": "anabranch.cli.serve, consumers.api.server",
    "neighbours": "anabranch.cli.neighbours, consumers.neighbours.neighbours_job",
    "reshare": "anabranch.cli.reshare, models.retraining.schedule",
}
"""Command of a process that runs until it is stopped → the modules behind it."""


def canonical_name(distribution: str) -> str:
    """One spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def area(module: str) -> str:
    return max((name for name in AREAS if within(module, [name])), key=len)


@cache
def modules_loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_an_area_imports_only_the_areas_it_may(name: str) -> None:
    modules = [module for module in sources() if area(module) == name]
    assert modules
    forbidden = {
        (module, imported)
        for module in modules
        for imported in imports()[module]
        if area(imported) not in {name, *MAY_IMPORT[name]}
    }
    assert not forbidden


def test_every_folder_of_models_has_its_place_in_the_order() -> None:
    folders = {folder for folder in folder_imports() if within(folder, ["models"])}
    assert not {folder for folder in folders if area(folder) == "models"} - {"models"}


def test_kafka_python_is_imported_only_at_the_edge() -> None:
    users = {module for module in sources() if any(within(name, ["kafka"]) for name in imported_names(module))}
    assert not {module for module in users if not within(module, KAFKA_PYTHON_USERS)}


@pytest.mark.parametrize("command", SERVERS)
def test_no_server_process_can_reach_the_harness(command: str) -> None:
    assert not [name for name in reachable(SERVERS[command].split(", ")) if within(name, ["anabranch.harness"])]


@pytest.mark.parametrize("command", SERVERS)
def test_no_server_process_loads_the_harness(command: str) -> None:
    loaded = modules_loaded_by(f"import anabranch.cli.main, {SERVERS[command]}")
    assert not [name for name in loaded if within(name, ["anabranch.harness"])]


@pytest.mark.parametrize("command", ["rank", "index", "neighbours", "collect", "serve"])
def test_serving_needs_neither_torch_nor_transformers(command: str) -> None:
    assert not {"torch", "transformers"} & modules_loaded_by(f"import anabranch.cli.main, {SERVERS[command]}")


def test_only_the_plots_of_benchmarks_need_what_make_test_adds() -> None:
    """`make demo` installs the extras `train` and `demo`, not `dev`."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    dev = {canonical_name(re.split(r"[\[<>=!~ ;]", line)[0]) for line in extras["dev"]}
    distributions = packages_distributions()
    users = {
        module
        for module in sources()
        for name in imported_names(module)
        if dev & set(map(canonical_name, distributions.get(name.partition(".")[0], ())))
    }
    assert users == {"anabranch.harness.bench.figures.plots"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not strongly_connected(imports())


def test_no_folders_import_each_other_in_a_circle() -> None:
    assert not strongly_connected(folder_imports())


def test_no_class_name_is_defined_in_two_modules() -> None:
    assert not {name: modules for name, modules in classes().items() if len(modules) > 1}


def test_a_circle_is_found_whatever_leads_into_it() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}, "e": {"a"}, "f": set()}
    assert strongly_connected({node: frozenset(successors) for node, successors in graph.items()}) == [["b", "c", "d"]]
