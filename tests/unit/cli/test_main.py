from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer
from kafka.errors import TopicAuthorizationFailedError
from typer.testing import CliRunner

from anabranch.cli.main import COMMANDS, app

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


OLD_OPTIONS = [
    *((command, "--seed=7", "--random-seed=7") for command in ("share", "evaluate", "reshare", "demo", "chaos")),
    *((command, "--discover", "--exclude-seen") for command in ("rank", "demo")),
    *((f"bench {name}", "--seed=7", "--random-seed=7") for name in ("items", "throughput", "latency")),
    ("bench throughput", "--echo-batch=64", "--noop-batch=64"),
]
REQUIRED = {"share": ["--data=folder", "--out=release"], "evaluate": ["--data=folder"]}


@pytest.mark.parametrize(("command", "old", "new"), OLD_OPTIONS)
def test_an_option_can_be_given_by_its_old_name(command: str, old: str, new: str) -> None:
    assert _parsed(command, old) == _parsed(command, new) != _parsed(command)


@pytest.mark.parametrize(("command", "old", "new"), OLD_OPTIONS)
def test_the_help_lists_an_option_by_its_new_name_alone(command: str, old: str, new: str) -> None:
    listed = {name for parameter in _command(command).params for name in parameter.opts}
    assert new.split("=")[0] in listed
    assert old.split("=")[0] not in listed


def test_a_command_can_be_given_by_its_old_name() -> None:
    old, new = (CliRunner().invoke(app, ["bench", name, "--help"]) for name in ("echo", "noop-baseline"))
    assert old.exit_code == 0
    assert old.output.splitlines()[2:] == new.output.splitlines()[2:]


def _command(names: str) -> Any:
    command: Any = typer.main.get_command(app)
    for name in names.split():
        command = command.commands[name]
    return command


def _parsed(names: str, *arguments: str) -> dict[str, Any]:
    """The values of a command's parameters."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("anabranch", names.split()[:1])
    given = [*REQUIRED.get(names, []), *arguments]
    parsed: dict[str, Any] = _command(names).make_context(names, given, parent=context).params
    return parsed


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
