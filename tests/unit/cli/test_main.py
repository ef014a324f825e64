from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import typer
from kafka.errors import TopicAuthorizationFailedError
from typer.core import TyperGroup
from typer.core import TyperOption as Option
from typer.testing import CliRunner

from anabranch.cli.main import COMMANDS, app
from anabranch.errors import UsageError
from models.experiments.training_options import TrainingOptions

OURS = ["topics", "catalogue", "replay", "index", "rank", "releases", "dead-letters", "inspect", "schema"]


@pytest.mark.parametrize("command", OURS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        "topics provision",
        "catalogue",
        "replay",
        "index",
        "rank",
        "releases list",
        "dead-letters show",
        "dead-letters replay",
        "inspect event",
        "schema",
    ],
)
def test_the_help_of_a_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert "Example: anabranch" in result.output


@pytest.mark.parametrize("command", ["share", "evaluate", "reshare"])
def test_the_random_seed_has_its_old_name_as_a_hidden_alias(command: str) -> None:
    (alias,) = (option for option in _options(command) if "--seed" in option.opts)
    assert alias.hidden
    assert "--random-seed" in {name for option in _options(command) for name in option.opts}


@pytest.mark.parametrize("command", ["rank", "demo"])
def test_exclude_seen_has_its_old_name_as_a_hidden_alias(command: str) -> None:
    (alias,) = (option for option in _options(command) if "--discover" in option.opts)
    assert alias.hidden
    assert "--exclude-seen" in {name for option in _options(command) for name in option.opts}


def test_the_old_name_of_the_random_seed_sets_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seeds: list[int] = []

    def record_seed(options: TrainingOptions) -> NoReturn:
        seeds.append(options.random_seed)
        raise UsageError("stop here")

    monkeypatch.setattr(TrainingOptions, "config", record_seed)
    arguments = ["share", "--data", str(tmp_path), "--out", str(tmp_path / "release")]
    for option in ("--seed", "--random-seed"):
        assert CliRunner().invoke(app, [*arguments, option, "7"]).exit_code == 2
    assert seeds == [7, 7]


def _options(command: str) -> list[Option]:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return [parameter for parameter in group.commands[command].params if isinstance(parameter, Option)]


def test_settings_that_do_not_hold_exit_with_2_and_no_traceback() -> None:
    result = CliRunner().invoke(app, ["--set", "linger_ms=soon", "inspect", "settings"])
    assert result.exit_code == 2
    assert "linger-ms" in result.output
    assert "Traceback" not in result.output


def test_a_broker_that_does_not_answer_is_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch.kafka.clients.BOOTSTRAP_TIMEOUT_MS", 300)
    result = CliRunner().invoke(app, ["--bootstrap-servers", "127.0.0.1:1", "topics", "check"])
    assert result.exit_code == 1
    assert "no broker at 127.0.0.1:1" in result.output


def test_an_error_of_the_broker_is_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TopicAuthorizationFailedError("events")

    monkeypatch.setattr("anabranch.kafka.clients.require_topics", refuse)
    result = CliRunner().invoke(app, ["releases", "list"])
    assert result.exit_code == 1
    assert "TopicAuthorizationFailedError" in result.output
    assert "Traceback" not in result.output


def test_a_setting_given_before_the_command_holds() -> None:
    result = CliRunner().invoke(app, ["--set", "linger_ms=5", "--topic-prefix", "shop.", "inspect", "settings"])
    assert '"linger_ms": 5' in result.output
    assert '"topic_prefix": "shop."' in result.output


def test_help_loads_neither_models_nor_kafka_nor_torch() -> None:
    heavy = "{'torch', 'onnxruntime', 'faiss', 'kafka', 'numpy', 'pyarrow'} & set(sys.modules)"
    code = f"import sys, anabranch.cli.main; found = {heavy}; sys.exit(str(found) if found else 0)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_every_command_has_a_summary() -> None:
    assert all(summary.endswith(".") for summary in COMMANDS.values())
