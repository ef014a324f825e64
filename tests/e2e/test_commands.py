"""Every command that README.md and the Makefile name is run by its public path, with options that make it small."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest
import typer.main

from anabranch.cli.main import app
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.ranker_probe import RankerProbe
from tests.e2e.shop import LIVE_EVENTS, ROOT, Shop, open_shop, run_python
from tests.support.data_folders import write_folder

pytestmark = pytest.mark.timeout(1800)

RUN_HERE: set[str] = set()
"""Commands that a test of this module runs."""
RUN_ELSEWHERE = {
    "anabranch demo": "tests/e2e/test_demo.py",
    "anabranch chaos": "tests/chaos/test_chaos.py",
    "anabranch standalone": "tests/e2e/test_standalone.py",
    "anabranch broker start": "tests/kafka/test_broker.py",
    "anabranch broker stop": "tests/kafka/test_broker.py",
    "anabranch collect": "tests/kafka/test_collector.py",
    "anabranch keys create": "tests/kafka/test_collector.py",
    "anabranch serve": "tests/kafka/test_serve.py",
    "anabranch neighbours": "tests/kafka/test_neighbours.py",
    "anabranch topics repartition": "tests/kafka/test_repartitioning.py",
}
"""Commands that another test runs, by its file."""
WITHOUT_COMMAND = {"help", "setup", "test", "fuzz", "check", "format", "lint-deploy", "clean"}
"""Targets of the Makefile that run no command of Anabranch: they set up, test or clean this repository."""
READY_TIMEOUT_S = 120.0

Test = TypeVar("Test", bound=Callable[..., object])


def runs(*commands: str) -> Callable[[Test], Test]:
    """Mark a test as the one that runs these commands."""
    RUN_HERE.update(commands)
    return lambda test: test


# --- a shop, step by step as README.md has it -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop whose topics exist."""
    opened = open_shop(tmp_path_factory.mktemp("shop"), bootstrap_servers, f"shop-{uuid4().hex[:12]}.")
    assert "created" in opened.run("topics", "provision")
    return opened


@pytest.fixture(scope="module")
def shop_with_release(shop: Shop) -> Shop:
    """The shop with a catalogue, a history and a live release."""
    shop.run("catalogue", str(shop.items))
    shop.run("replay", str(shop.history))
    shop.run("reshare", "--once")
    return shop


@pytest.fixture(scope="module")
def shop_that_ranked(shop_with_release: Shop) -> Iterator[Shop]:
    """The shop once an indexer and a ranker have ranked the live events; both still run."""
    shop, (ranker_port, indexer_port) = shop_with_release, free_ports(2)
    indexer = shop.start("index", "--metrics-port", str(indexer_port))
    ranker = shop.start("rank", "--start", "latest", "--metrics-port", str(ranker_port))
    try:
        probe = RankerProbe(ranker_port)
        _await(lambda: probe.ranks(partitions=2))
        shop.run("replay", str(shop.live))
        _await(lambda: probe.total("anabranch_rankings_total") >= LIVE_EVENTS)
        yield shop
    finally:
        for process in (ranker, indexer):
            process.stop()
            process.check()


def live_release(shop: Shop) -> str:
    [name] = [row["release"] for row in json.loads(shop.run("releases", "list", "--json")) if row["status"] == "live"]
    return str(name)


@runs("anabranch topics provision")
def test_topics_are_as_provisioned(shop: Shop) -> None:
    assert "with the right settings" in shop.run("topics", "provision")


@runs("anabranch check")
def test_files_are_checked_and_joined_without_a_broker(shop: Shop) -> None:
    lines = shop.run("check", str(shop.items), str(shop.history)).splitlines()
    assert lines.count("  every row can be read") == 2
    assert re.fullmatch(r"\S+: [\d,]+ of [\d,]+ events name an item that is not in the catalogue", lines[-1])


@runs("anabranch catalogue", "anabranch replay", "anabranch reshare", "anabranch releases list")
def test_a_catalogue_and_a_history_from_files_become_a_live_release(shop_with_release: Shop) -> None:
    bootstrap, trained = json.loads(shop_with_release.run("releases", "list", "--json"))
    assert (bootstrap["release"], trained["release"]) == ("r0001", "r0002")
    assert {release["status"] for release in (bootstrap, trained)} in ({"live", "rejected"}, {"retired", "live"})
    assert bootstrap["folder"] == trained["folder"] == "whole"
    assert "ndcg_at_20_minus_incumbent_low" in trained["gate"], "the bootstrap release is what it has to beat"
    assert "r0001" in shop_with_release.run("releases", "list")


@runs("anabranch releases announce")
def test_the_live_release_can_be_announced_again(shop_with_release: Shop) -> None:
    name = live_release(shop_with_release)
    said = shop_with_release.run("releases", "announce", "--reason", "again", str(shop_with_release.releases / name))
    assert said == f"release {name} is live\n"


@runs("anabranch index", "anabranch rank")
def test_every_event_replayed_to_a_running_ranker_has_a_ranking(shop_that_ranked: Shop) -> None:
    lines = shop_that_ranked.run("inspect", "topic", "rankings", "--limit", "1000").splitlines()
    rankings = [json.loads(line)["message"] for line in lines]
    assert len({ranking["cause"]["event_id"] for ranking in rankings}) == len(rankings) == LIVE_EVENTS
    assert {ranking["release"] for ranking in rankings} == {live_release(shop_that_ranked)}
    assert all(ranking["slate"] for ranking in rankings)


@runs("anabranch inspect")
def test_an_event_a_user_and_the_settings_can_be_inspected(shop_that_ranked: Shop) -> None:
    [line] = shop_that_ranked.run("inspect", "topic", "feedback", "--limit", "1").splitlines()
    event = json.loads(line)["message"]["event"]
    topics = [
        json.loads(line)["topic"] for line in shop_that_ranked.run("inspect", "event", event["event_id"]).splitlines()
    ]
    assert topics == ["events", "rankings", "feedback"]
    state, *_ = shop_that_ranked.run("inspect", "user", event["user_id"]).splitlines()
    assert event["item_id"] in json.loads(state)["state"]["history"]
    assert json.loads(shop_that_ranked.run("inspect", "settings"))["partitions"] == 2
    assert json.loads(shop_that_ranked.run("inspect", "state", "--json"))["max_users"] > 0


@runs("anabranch rules")
def test_reasons_and_previews_are_of_the_slates_that_the_ranker_published(
    shop_that_ranked: Shop, tmp_path: Path
) -> None:
    shop = shop_that_ranked
    [line] = shop.run("inspect", "topic", "rankings", "--limit", "1").splitlines()
    ranking = json.loads(line)["message"]
    slate = [item_id for item_id, _ in ranking["slate"]]
    told = json.loads(shop.run("inspect", "ranking", ranking["user_id"], "--json"))["for_you"]
    assert [reason["item_id"] for reason in told] == slate
    assert all(reason["because"] for reason in told), "every item has a source"

    rule = {"rule_id": "first", "action": "pin", "items": [slate[-1]], "position": 1}
    (tmp_path / "rules.json").write_text(json.dumps(rule))
    seen = json.loads(
        shop.run("rules", "preview", ranking["user_id"], "--with", str(tmp_path / "rules.json"), "--json")
    )
    assert seen["before"]["for_you"] == slate
    assert seen["after"]["for_you"] == [slate[-1], *slate[:-1]]


@runs("anabranch dead-letters show")
def test_a_dead_letter_is_shown_and_replayed(shop_that_ranked: Shop) -> None:
    assert shop_that_ranked.run("dead-letters", "show") == ""
    assert "nothing to replay" in shop_that_ranked.run("dead-letters", "replay")


@runs("anabranch evaluate")
def test_a_release_is_evaluated_on_a_file_of_events(shop_with_release: Shop) -> None:
    shop, figures = shop_with_release, shop_with_release.folder / "figures.json"
    files = ("--data", str(shop.live), "--items", str(shop.items), "--share", "0.5")
    shop.run("evaluate", *files, "--release", str(shop.releases / "r0001"), "--json", str(figures))
    assert json.loads(figures.read_bytes())["prequential"]["served"]["events"] > 0


# --- without a broker -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Benchmark data in the neutral form: users who buy items in one order, the last two held out."""
    folder = tmp_path_factory.mktemp("data")
    rows = [(user, position, (user + position) % 30) for user in range(120) for position in range(10)]
    parts = {
        "train": [row for row in rows if row[1] < 8],
        "val": [row for row in rows if row[1] == 8],
        "test": [row for row in rows if row[1] == 9],
    }
    write_folder(folder / "video", parts, [{"item_id": item, "title": f"film {item}"} for item in range(30)])
    return folder


@runs("anabranch share")
def test_a_release_is_made_from_files(benchmark_data: Path, tmp_path: Path) -> None:
    data = ("--data", str(benchmark_data / "video"), "--protocol", "leave-one-out")
    _run("share", *data, "--out", str(tmp_path / "release"), data_dir=tmp_path)
    assert (tmp_path / "release" / "manifest.json").is_file()


@runs("anabranch results", "make results")
def test_a_measurement_is_made_and_the_page_of_results_has_it(benchmark_data: Path, tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    small = ("--only", "video", "--random-seeds", "1", "--jobs", "1")
    files = ("--figures", str(tmp_path / "figures"), "--out", str(page))
    _run("results", "--data", str(benchmark_data), *small, *files, data_dir=tmp_path)
    written = page.read_text()
    assert re.search(r"\| \*\*served\*\* \| train\+validation \| \d\.\d{4} \(one seed\)", written)
    assert re.search(r"\| encoder \| list ranker \| \d\.\d{4} \(one seed\)", written), "what each part adds"


def test_the_schemas_of_the_package_are_current(tmp_path: Path) -> None:
    assert "are up to date" in _run("schema", "--check", data_dir=tmp_path)


# --- benchmarks -------------------------------------------------------------------------------------------------------


@runs("anabranch bench all")
def test_benchmarks_print_a_table_of_figures(shop_with_release: Shop, tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    only = [word for name in ("throughput", "swap", "idle", "serve") for word in ("--only", name)]
    options = ("--small", "--repeats", "1", *only, "--releases", str(shop_with_release.releases))
    table = _run(
        "bench", "all", *options, "--data-dir", str(tmp_path / "bench"), "--json", str(target), data_dir=tmp_path
    )
    figures = json.loads(target.read_bytes())
    assert figures["throughput"]["events_per_second"]["mean"] > 0
    assert figures["throughput"]["echo_events_per_second"]["512"]["mean"] > 0
    assert figures["swap"]["partitions_that_mixed_releases"] == 0
    assert figures["idle"]["next_event_ms"]["ranker"]["mean"] > 0
    assert "events/s, one ranker" in table and "largest latency at a swap" in table
    assert figures["serve"]["requests_per_second"]["mean"] > 0
    assert "CPU of an idle ranker" in table and "requests/s, one server" in table


@runs("anabranch bench gate")
def test_the_gate_is_simulated_without_a_broker(tmp_path: Path) -> None:
    target = tmp_path / "gate.json"
    _run("bench", "gate", "--trials", "2", "--json", str(target), data_dir=tmp_path)
    figures = json.loads(target.read_bytes())
    assert [row["day_effect"] for row in figures["false_releases"]] == [0.0, 1.0, 2.0]
    assert len(figures["power"]) == 9
    assert [row["earlier_releases"] for row in figures["chains"]] == [0, 5]


@runs("python -m tests.benchmarks.peers")
def test_peers_answer_the_same_events(shop_with_release: Shop, tmp_path: Path) -> None:
    target = tmp_path / "peers.json"
    small = "--repeats 1 --events 300 --peer-events 100 --update 50 --rate 50 --seconds 1 --items 100 --households 12"
    folders = ("--releases", str(shop_with_release.releases), "--data-dir", str(tmp_path / "run"))
    options = (*small.split(), *folders, "--json", str(target))
    run_python("-m", "tests.benchmarks.peers", *options, environment=_environment(tmp_path))
    rates = json.loads(target.read_bytes())["rankings_per_second"]
    assert {"anabranch", "transformer over the history"} <= rates.keys()
    assert all(rate["mean"] > 0 for rate in rates.values())


@runs("python -m tests.benchmarks.peers.sequential")
def test_sequential_peers_are_trained_once_and_rank_the_test(tmp_path: Path) -> None:
    walks = [[(user * 7 + place) % 30 for place in range(4 + user % 5)] for user in range(60)]
    rows = [[(user, place, item) for place, item in enumerate(walk)] for user, walk in enumerate(walks)]
    parts = {"train": slice(-2), "val": slice(-2, -1), "test": slice(-1, None)}
    data = write_folder(
        tmp_path / "walk", {name: [row for user in rows for row in user[part]] for name, part in parts.items()}
    )
    options = ("--data", str(data), "--model", "sasrec", "--rows", "train", "--rows", "train+validation")
    command = ("-m", "tests.benchmarks.peers.sequential", *options, "--out", str(tmp_path / "figures"))
    lines = run_python(*command, environment=_environment(tmp_path)).splitlines()
    assert [line.split(": recall@10 ")[0] for line in lines] == [
        "sasrec walk train 0",
        "sasrec walk train+validation 0",
    ]
    figures = tmp_path / "figures/peer-sasrec-walk-train-0.json"
    assert json.loads(figures.read_bytes())["events"] == 60
    written = figures.stat().st_mtime_ns
    assert run_python(*command, environment=_environment(tmp_path)).splitlines() == lines
    assert figures.stat().st_mtime_ns == written, "a run whose figures are there is not made again"


# --- README.md and the Makefile ---------------------------------------------------------------------------------------


def _commands_of_the_readme() -> list[list[str]]:
    """The words of every line of README.md that is an `anabranch` or `make` command, without its comment."""
    lines = re.findall(r"^    ((?:anabranch|make) .*)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def _targets_of_the_makefile() -> dict[str, str]:
    """The recipe of every target that `make help` lists."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    return dict(re.findall(r"^([a-z-]+):.*## .*\n((?:\t.*\n)*)", makefile, re.MULTILINE))


def _name(words: list[str]) -> str:
    """A command without its options."""
    return " ".join(words[: next((index for index, word in enumerate(words) if word.startswith("-")), len(words))])


def _tested() -> set[str]:
    return RUN_HERE | RUN_ELSEWHERE.keys()


def test_every_command_that_the_readme_names_is_run_by_a_test() -> None:
    named = {_name(words) for words in _commands_of_the_readme() if words[0] == "anabranch"}
    assert len(named) >= 11
    assert named <= _tested(), "add a test that runs the command, marked with @runs"


def test_every_command_that_make_help_lists_is_run_by_a_test() -> None:
    targets = _targets_of_the_makefile()
    assert {words[1] for words in _commands_of_the_readme() if words[0] == "make"} <= targets.keys()
    for target in targets.keys() - WITHOUT_COMMAND:
        commands = re.findall(r"@\$\(BIN\)/(\S+(?: [a-z.-]+)*) \$\(ARGS\)", targets[target])
        assert commands and set(commands) <= _tested(), f"make {target}: add a test that runs the command"


@pytest.mark.parametrize("command", RUN_ELSEWHERE)
def test_a_command_that_is_run_elsewhere_is_run_there(command: str) -> None:
    text, words = (ROOT / RUN_ELSEWHERE[command]).read_text("utf-8"), command.split()
    alone, of_a_process = (", ".join(f'"{word}"' for word in part) for part in (words[:2], words[1:]))
    assert alone in text or f"Process(world.settings, {of_a_process}" in text


def test_every_command_line_of_the_readme_is_one_that_the_parser_takes() -> None:
    for words in _commands_of_the_readme():
        if words[0] == "anabranch" and "--help" not in words:
            command, arguments = typer.main.get_command(app), words[1:]
            while hasattr(command, "get_command"):
                command, arguments = command.get_command(None, arguments[0]), arguments[1:]
            command.make_context(words[1], arguments, resilient_parsing=True)


@pytest.mark.parametrize(("target", "extra"), [("demo", []), ("bench", []), ("test", ["dev"])])
def test_a_target_installs_what_it_needs(target: str, extra: list[str], tmp_path: Path) -> None:
    plan = ["make", "--dry-run", target, f"VENV={tmp_path / 'venv'}"]
    recipe = subprocess.run(plan, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"--requirement deploy/pins/(\w+)\.txt", recipe) == ["serving", "train", "demo", *extra]


def test_make_help_lists_the_targets() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"  {target} " in listed for target in _targets_of_the_makefile())


def _environment(data_dir: Path) -> dict[str, str]:
    folders = {"ANABRANCH_DATA_DIR": str(data_dir), "ANABRANCH_RELEASES_DIR": str(data_dir / "releases")}
    return os.environ | folders | {"COLUMNS": "160", "PYTHONPATH": str(ROOT)}


def _run(*arguments: str, data_dir: Path) -> str:
    """Run an `anabranch` command that needs no broker, or starts its own."""
    return run_python("-m", "anabranch", *arguments, environment=_environment(data_dir))


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
