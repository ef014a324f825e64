"""Which rules are refused, and when and where a rule holds."""

from __future__ import annotations

import msgspec
import pytest

from anabranch import messages
from anabranch.messages import InvalidMessage, Rule, encode

HIDE = {"rule_id": "r", "action": "hide", "brands": ["Ladle"]}
PIN = {"rule_id": "r", "action": "pin", "items": ["a"], "position": 1}
BOOST = {"rule_id": "r", "action": "boost", "domains": ["shop"], "factor": 2.0}


@pytest.mark.parametrize("rule", [HIDE, PIN, BOOST, {**HIDE, "action": "bury"}])
def test_a_rule_of_each_action_is_read_as_it_was_written(rule: dict[str, object]) -> None:
    read = messages.rules.decode(msgspec.json.encode(rule))
    assert messages.rules.decode(encode(read)) == read


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"rule_id": "r", "action": "hide"}, "a rule has a condition"),
        ({**HIDE, "brand": "Ladle"}, "brand"),
        ({**PIN, "brands": ["Ladle"]}, "`pin` needs `items`, and has no other condition"),
        ({**PIN, "items": []}, "a rule has a condition"),
        ({**PIN, "items": [str(n) for n in range(21)]}, "at most 20 items"),
        ({**PIN, "position": None}, "`position` belongs to `pin`, which needs it"),
        ({**HIDE, "position": 1}, "`position` belongs to `pin`"),
        ({**BOOST, "factor": None}, "`factor` belongs to `boost`, which needs it"),
        ({**HIDE, "factor": 2.0}, "`factor` belongs to `boost`"),
        ({**BOOST, "factor": 0.0}, "factor"),
        ({**HIDE, "starts": 5, "ends": 5}, "`ends` must be later than `starts`"),
        ({**HIDE, "price_from": 5, "price_below": 5}, "`price_below` must be higher than `price_from`"),
        ({**HIDE, "categories": [[]]}, "categories"),
        ({**HIDE, "placements": ["For You"]}, "placements"),
    ],
)
def test_a_faulty_rule_is_refused_with_its_problem(rule: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        messages.rules.decode(msgspec.json.encode(rule))
    assert problem in refused.value.reason


def test_a_rule_holds_from_its_start_to_before_its_end() -> None:
    rule = Rule(rule_id="r", action="hide", brands=["Ladle"], starts=10, ends=20)
    assert [moment for moment in (9, 10, 19, 20) if rule.holds_at(moment)] == [10, 19]


def test_a_rule_that_names_no_placement_holds_on_all() -> None:
    rule = Rule(rule_id="r", action="hide", brands=["Ladle"])
    assert rule.holds_on("for_you")
    assert not msgspec.structs.replace(rule, placements=["again"]).holds_on("for_you")
