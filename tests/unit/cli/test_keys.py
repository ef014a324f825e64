"""`anabranch keys`, and what `anabranch collect` says before it needs a broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from anabranch.cli.main import app
from anabranch.http import key_file


def run(*arguments: str, path: Path | None) -> Result:
    environment = {} if path is None else {"ANABRANCH_API_KEYS_FILE": str(path), "ANABRANCH_DATA_DIR": str(path.parent)}
    return CliRunner().invoke(app, list(arguments), env=environment)


def test_a_key_is_printed_once_listed_by_name_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    created = run("keys", "create", "--name", "shop", "--scope", "events:write", "--scope", "admin", path=path)
    assert created.exit_code == 0
    text = created.stdout.strip()
    key = key_file.read(path).find(text)
    assert key is not None and (key.name, key.scopes) == ("shop", ("events:write", "admin"))
    listed = run("keys", "list", path=path)
    assert listed.stdout == "shop  events:write, admin\n"
    assert run("keys", "remove", "shop", path=path).exit_code == 0
    assert run("keys", "list", path=path).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("create", "--name", "shop", "--scope", "events:read"), "scopes are events:write, rankings:read and admin"),
        (("create", "--name", "a b", "--scope", "admin"), "A name has letters"),
        (("remove", "shop"), "`anabranch keys create` writes it"),
        (("list",), "`anabranch keys create` writes it"),
    ],
)
def test_a_wrong_command_ends_with_a_line_that_says_what_is_right(
    arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    ended = run("keys", *arguments, path=tmp_path / "keys.json")
    assert ended.exit_code == 2
    assert expected in " ".join(ended.output.split())


def test_without_the_setting_the_command_names_it() -> None:
    ended = run("keys", "list", path=None)
    assert ended.exit_code == 2
    assert "ANABRANCH_API_KEYS_FILE" in ended.output


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--host", "0.0.0.0", "--port", "0"), "create a key with `anabranch keys create` and set api_keys_file"),
        (("--host", "192.0.2.1", "--port", "0"), "choose another --port"),
    ],
)
def test_the_collector_refuses_to_start_without_keys_where_others_reach_it(
    options: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    ended = CliRunner().invoke(app, ["collect", *options], env={"ANABRANCH_DATA_DIR": str(tmp_path)})
    assert ended.exit_code == 2
    assert expected in " ".join(ended.output.split())
