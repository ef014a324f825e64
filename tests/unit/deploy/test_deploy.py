"""The deploy files cannot be run by the tests, so they are held against what they name: commands and settings."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from anabranch.cli.main import app
from anabranch.harness.environment.kafka_jars import kafka_version
from anabranch.http.server import MAX_CONNECTIONS
from anabranch.settings_loader import load as load_settings

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
COMPOSE_SCHEMA = Path(__file__).with_name("compose-spec.json")
"""From the Compose Specification, github.com/compose-spec/compose-spec at 170098b, Apache-2.0."""
OURS = ("topics", "collector", "server", "api-keys", "indexer", "neighbours", "ranker-1", "ranker-2", "reshare")


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


compose = load("compose.yaml")
services: dict[str, Any] = compose["services"]


# --- compose ----------------------------------------------------------------------------------------------------------


def test_compose_holds_to_the_compose_specification() -> None:
    problems = list(Draft7Validator(json.loads(COMPOSE_SCHEMA.read_text("utf-8"))).iter_errors(compose))

    assert not [f"{'.'.join(map(str, problem.absolute_path))}: {problem.message}" for problem in problems]


def test_docker_reads_the_compose_file_where_it_can() -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed; the schema is all that holds the file")
    read = subprocess.run(
        ["docker", "compose", "--file", DEPLOY / "compose.yaml", "config", "--quiet"], capture_output=True, text=True
    )

    assert read.returncode == 0, read.stderr


def test_compose_starts_every_part_of_the_loop() -> None:
    assert set(services) == {"broker", "prometheus", *OURS}
    assert [services[name]["command"][0] for name in OURS] == [
        "topics",
        "collect",
        "serve",
        "keys",
        "index",
        "neighbours",
        "rank",
        "rank",
        "reshare",
    ]


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_that_is_there_with_options_it_has(name: str) -> None:
    assert_is_a_command(services[name]["command"])


@pytest.mark.parametrize("name", OURS)
def test_a_service_sets_what_are_settings(name: str) -> None:
    load_settings(None, services[name]["environment"])


def test_the_health_check_of_every_service_asks_whether_it_is_ready() -> None:
    """`test_the_health_check_of_the_compose_file_passes_once_a_process_is_ready` runs it."""
    for name in OURS:
        port = metrics_port(services[name]["command"])
        checks = [f'"http://127.0.0.1:{number}/ready"' in services[name]["healthcheck"]["test"][-1] for number in port]
        assert all(checks), name
        assert checks or services[name]["healthcheck"] == {"disable": True}, name


def test_each_ranker_has_an_instance_of_its_own() -> None:
    instances = [services[name]["environment"]["ANABRANCH_INSTANCE"] for name in ("ranker-1", "ranker-2")]

    assert len(set(instances)) == 2


@pytest.mark.parametrize("name", OURS)
def test_a_service_can_write_nowhere_but_in_its_volumes(name: str) -> None:
    assert services[name]["read_only"] is True
    assert services[name]["cap_drop"] == ["ALL"]


def test_only_the_re_sharing_job_writes_releases() -> None:
    mounts = {name: volume for name in OURS for volume in services[name].get("volumes", ()) if "/releases" in volume}

    assert mounts.pop("reshare") == "releases:/releases"
    assert mounts == dict.fromkeys(("server", "indexer", "neighbours", "ranker-1", "ranker-2"), "releases:/releases:ro")


def test_the_collector_reads_the_file_of_keys_that_the_service_for_keys_writes() -> None:
    collector, keys = services["collector"], services["api-keys"]

    assert (collector["volumes"], keys["volumes"]) == (["keys:/keys:ro"], ["keys:/keys"])
    assert keys["environment"]["ANABRANCH_API_KEYS_FILE"] == collector["environment"]["ANABRANCH_API_KEYS_FILE"]
    assert collector["environment"]["ANABRANCH_API_KEYS_FILE"].startswith("/keys/")
    assert "/keys" in next(line for line in instruction("RUN") if "useradd" in line).split(), "of its user"


def test_what_others_reach_has_limits_of_memory_processor_threads_and_files() -> None:
    collector = services["collector"]

    assert {"mem_limit", "cpus", "pids_limit"} <= set(collector)
    assert collector["ulimits"]["nofile"] > MAX_CONNECTIONS


def test_every_volume_and_dependency_is_declared() -> None:
    for service in services.values():
        named = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert {volume for volume in named if not volume.startswith(".")} <= set(compose["volumes"])
        assert set(service.get("depends_on", ())) <= set(services)


def test_only_this_host_reaches_what_is_published() -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_foreign_image_is_pinned() -> None:
    """By its digest; the broker by its version, which is the one that the tests run on."""
    (python,) = instruction("ARG")[:1]
    assert re.fullmatch(r"PYTHON=python:3\.11[\w.-]*@sha256:[0-9a-f]{64}", python)
    assert {line.partition(" AS ")[0] for line in instruction("FROM")} <= {"${PYTHON}", "build", "runtime"}
    for name, service in services.items():
        digest = "" if name in OURS or name == "broker" else "@sha256:[0-9a-f]{64}"
        assert re.fullmatch(rf"[\w./-]+:[\w.-]+{digest}", service["image"]), name
        assert not service["image"].endswith(":latest"), name


def test_the_broker_is_the_release_the_tests_run_on() -> None:
    assert services["broker"]["image"] == f"apache/kafka:{kafka_version()}"


def test_the_second_neighbours_job_that_a_comment_shows_has_a_shard_of_its_own() -> None:
    text = re.sub(r"(?m)^  #   ", "  ", (DEPLOY / "compose.yaml").read_text("utf-8"))
    with_comment = yaml.safe_load(text)
    problems = Draft7Validator(json.loads(COMPOSE_SCHEMA.read_text("utf-8"))).iter_errors(with_comment)
    second = with_comment["services"]["neighbours-1"]
    shards = {"ANABRANCH_NEIGHBOURS_SHARDS": "2"}

    assert not list(problems)
    assert second["command"] == services["neighbours"]["command"]
    assert load_settings(None, second["environment"] | shards).neighbours_shard == 1
    assert load_settings(None, services["neighbours"]["environment"] | shards).neighbours_shard == 0


def test_a_stateful_set_gives_each_pod_the_settings_of_its_shard() -> None:
    (text,) = re.findall(r"```yaml\n(env:.*?)```", (DEPLOY.parent / "docs/operations.md").read_text("utf-8"), re.DOTALL)
    shards, shard = yaml.safe_load(text)["env"]

    assert "pod-index" in shard["valueFrom"]["fieldRef"]["fieldPath"]
    assert load_settings(None, {shards["name"]: shards["value"], shard["name"]: "1"}).neighbours_shard == 1


# --- images -----------------------------------------------------------------------------------------------------------


def dockerfile() -> Iterator[tuple[str, str]]:
    """Every instruction as (name, arguments), continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, arguments = line.partition(" ")
            yield name, arguments.strip()


def instruction(name: str) -> list[str]:
    return [arguments for instruction_name, arguments in dockerfile() if instruction_name == name]


def test_the_image_runs_our_command_line() -> None:
    assert [json.loads(entry) for entry in instruction("ENTRYPOINT")] == [["anabranch"]]
    for command in instruction("CMD"):
        assert_is_a_command(json.loads(command))


def test_the_image_sets_what_are_settings() -> None:
    environment = dict(pair.split("=", 1) for line in instruction("ENV") for pair in shlex.split(line))

    load_settings(None, environment)


def test_every_service_is_built_from_a_stage_of_the_dockerfile() -> None:
    stages = {line.rpartition(" AS ")[2] for line in instruction("FROM")}

    assert {services[name]["build"]["target"] for name in OURS} <= stages


def test_the_serving_image_has_no_torch() -> None:
    serving = (DEPLOY / "Dockerfile").read_text("utf-8").partition("AS build\n")[2].partition("\nFROM ")[0]

    assert "pins/serving.txt" in serving
    assert "pins/train.txt" not in serving
    assert "torch" not in pinned("serving")


# --- pins -------------------------------------------------------------------------------------------------------------

SETS = ("serving", "train", "demo", "dev")


def pinned(name: str) -> dict[str, str]:
    """Distribution → version of a file of pins, each of which must have the hash of at least one file."""
    text = (DEPLOY / "pins" / f"{name}.txt").read_text("utf-8").replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        pin = re.fullmatch(r"(\S+?)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+)", line.strip())
        assert pin is not None, f"{name}.txt: {line[:80]}"
        pins[canonicalize_name(pin[1])] = pin[2]
    return pins


def test_every_dependency_is_pinned_once_in_a_version_that_the_project_takes() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {"serving": project["dependencies"], **project["optional-dependencies"]}
    seen: dict[str, str] = {}
    for name in SETS:
        pins = pinned(name)
        assert not pins.keys() & seen.keys(), f"{name}.txt repeats what a set before it has"
        seen |= pins
        for requirement in map(Requirement, wanted[name]):
            assert requirement.specifier.contains(seen[canonicalize_name(requirement.name)]), requirement


def test_the_peers_are_pinned() -> None:
    assert {"implicit", "quixstreams", "rtrec", "kafka-python"} <= pinned("peers").keys()


def test_nothing_is_installed_without_its_hash() -> None:
    for path in (DEPLOY / "Dockerfile", DEPLOY.parent / "Makefile"):
        text = path.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"pip install.*", text):
            assert "--no-deps" in line, line
            assert "--require-hashes" in line or "--no-build-isolation" in line, line


# --- Prometheus -------------------------------------------------------------------------------------------------------


def test_prometheus_scrapes_every_service_that_serves_metrics() -> None:
    scraped = {
        target
        for job in load("prometheus.yml")["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }

    assert scraped == {f"{name}:{port}" for name in OURS for port in metrics_port(services[name]["command"])}
    assert load("prometheus.yml")["rule_files"] == ["alerts.yml"]


# --- what the tests do ------------------------------------------------------------------------------------------------


def assert_is_a_command(arguments: list[str]) -> None:
    """The command line takes these words: an unknown command or option is refused before the help is shown."""
    result = CliRunner().invoke(app, [*arguments, "--help"])

    assert result.exit_code == 0, f"anabranch {' '.join(arguments)}: {result.output}"


def docker_compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", "compose", *arguments], capture_output=True, text=True, check=False)


def metrics_port(command: list[str]) -> list[str]:
    return [command[command.index("--metrics-port") + 1]] if "--metrics-port" in command else []
