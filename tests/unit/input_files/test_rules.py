"""Files of rules: what they hold, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from anabranch.errors import UsageError
from anabranch.input_files.rules import read_rule_file
from anabranch.messages import Rule

HIDE = '{"rule_id": "r", "action": "hide", "brands": ["Ladle"]}'


@pytest.mark.parametrize("content", [HIDE, f"[{HIDE}]"])
def test_a_file_holds_one_rule_or_a_list(tmp_path: Path, content: str) -> None:
    (tmp_path / "rules.json").write_text(content)
    assert read_rule_file(tmp_path / "rules.json") == [Rule(rule_id="r", action="hide", brands=["Ladle"])]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("nothing", "rules.json is not valid JSON"),
        (f'[{HIDE}, {{"rule_id": "s"}}]', "rules.json, rule 2: Object missing required field `action`"),
        (f"[{HIDE}, {HIDE}]", "rules.json, rule 2: another rule before it has the rule_id 'r'"),
    ],
)
def test_a_faulty_file_is_refused_with_the_place_and_the_problem(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "rules.json").write_text(content)
    with pytest.raises(UsageError, match=problem):
        read_rule_file(tmp_path / "rules.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json cannot be read: No such file"):
        read_rule_file(tmp_path / "none.json")
