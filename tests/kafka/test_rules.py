"""Rules on a real broker: put, listed, previewed, applied by a ranker, told as reasons, removed, and remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from anabranch.kafka.topics import Topics
from anabranch.messages import Item
from anabranch.placements import DISCOVER, FOR_YOU
from anabranch.settings import Settings
from tests.kafka.world import ITEMS, PATIENCE_S, Process, World, await_true, purchases, variables

PINNED = {"rule_id": "front", "action": "pin", "items": [ITEMS[50]], "position": 1, "note": "the new season"}
HIDDEN = {"rule_id": "recall", "action": "hide", "brands": ["Ladle"], "placements": ["discover"]}


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    """Two placements, a release, and a user's events."""
    world = World(replace(settings, placements=(FOR_YOU, DISCOVER), slate_size=5))
    world.go_live("r1")
    world.publish(purchases(10, users=1))
    return world


def anabranch(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anabranch", *arguments],
        env=os.environ | variables(world.settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def say(world: World, *arguments: str) -> str:
    """What a command prints; it must succeed."""
    ended = anabranch(world, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def rule_file(world: World, *rules: dict[str, object]) -> str:
    path: Path = world.settings.data_dir / "rules.json"
    path.write_text(json.dumps(rules))
    return str(path)


def test_a_ranker_applies_a_rule_until_it_is_removed(world: World) -> None:
    with Process(world.settings, "rank", "--start", "earliest"):
        world.await_rankings(10)
        say(world, "rules", "put", rule_file(world, PINNED))
        published = 10

        def next_slate_starts_with(item_id: str, wanted: bool) -> bool:
            nonlocal published
            world.publish(purchases(1, users=1, first=published))
            published += 1
            ranking = world.await_rankings(published)[-1]
            return (ranking.slate[0].item_id == item_id) is wanted

        await_true(lambda: next_slate_starts_with(ITEMS[50], wanted=True), "a slate with the pinned item first")
        say(world, "rules", "remove", "front")
        await_true(lambda: next_slate_starts_with(ITEMS[50], wanted=False), "a slate without it")


def test_rules_are_listed_and_their_changes_remembered(world: World) -> None:
    file = rule_file(world, PINNED, HIDDEN)
    assert say(world, "rules", "put", file, "--by", "ann") == "rule front added\nrule recall added\n"
    assert say(world, "rules", "put", file) == "2 rules unchanged\n"
    changed = rule_file(world, {**PINNED, "position": 2})
    assert say(world, "rules", "put", changed, "--by", "bob") == "rule front changed\n"
    assert say(world, "rules", "remove", "recall", "--by", "bob") == "rule recall removed\n"

    assert [rule["rule_id"] for rule in json.loads(say(world, "rules", "list", "--json"))] == ["front"]
    listed = say(world, "rules", "list")
    for told in ("front", "pin at 2", f"id {ITEMS[50]}", "every placement", "yes", "the new season"):
        assert told in listed

    changes = [json.loads(line) for line in say(world, "rules", "history").splitlines()]
    assert [(change["rule_id"], change["by"]) for change in changes] == [
        ("front", "ann"),
        ("recall", "ann"),
        ("front", "bob"),
        ("recall", "bob"),
    ]
    assert changes[2]["before"]["position"] == 1
    assert changes[2]["after"]["position"] == 2
    assert "after" not in changes[3]
    assert len(say(world, "rules", "history", "front").splitlines()) == 2


def test_rules_are_previewed_on_a_user_and_nothing_changes(world: World) -> None:
    world.publish_items([Item(item_id=ITEMS[50], title="The fiftieth")])
    tried = rule_file(world, PINNED)
    seen = json.loads(say(world, "rules", "preview", "u0", "--with", tried, "--json"))
    for placement in ("for_you", "discover"):
        assert seen["after"][placement] == [ITEMS[50], *(i for i in seen["before"][placement] if i != ITEMS[50])][:5]
    assert json.loads(say(world, "rules", "list", "--json")) == []

    with Process(world.settings, "rank", "--start", "earliest"):
        ranking = world.await_rankings(10)[-1]
    assert seen["before"]["for_you"] == [item.item_id for item in ranking.slate], "what a ranker shows"

    say(world, "rules", "put", tried)
    assert json.loads(say(world, "rules", "preview", "u0", "--json")) == seen, "without rules, and with those that hold"
    shown = say(world, "rules", "preview", "u0")
    assert f"{ITEMS[50]}  The fiftieth" in shown
    assert "with those that hold" in shown


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("put", "RULES"),
            "rule recall: there is no placement discovery; the setting `placements` has for_you, discover",
        ),
        (("remove", "none"), "there is no rule none; `anabranch rules list` lists them"),
        (("preview", "nobody"), "there are no events of user nobody"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(world: World, arguments: tuple[str, ...], problem: str) -> None:
    file = rule_file(world, {**HIDDEN, "placements": ["discovery"]})
    ended = anabranch(world, "rules", *(file if argument == "RULES" else argument for argument in arguments))
    assert ended.returncode == 2
    assert ended.stderr == f"anabranch: {problem}\n"


def test_the_reasons_of_a_ranking_are_those_of_what_a_ranker_shows(world: World) -> None:
    world.publish_items([Item(item_id=ITEMS[50], title="The fiftieth")])
    say(world, "rules", "put", rule_file(world, PINNED))
    with Process(world.settings, "rank", "--start", "earliest"):
        ranking = world.await_rankings(10)[-1]
    told = json.loads(say(world, "inspect", "ranking", "u0", "--json"))
    assert [reason["item_id"] for reason in told["for_you"]] == [item.item_id for item in ranking.slate]
    assert told["for_you"][0]["title"] == "The fiftieth"
    assert "rule front: pin from place 1 on" in told["for_you"][0]["because"]
    for reason in told["for_you"]:
        parts = reason["base"] + sum(reason["contributions"].values()) + reason["by_rules"]
        assert parts == pytest.approx(reason["score"], abs=1e-3)
    shown = say(world, "inspect", "ranking", "u0")
    assert "mean of the candidates" in shown
    assert ITEMS[50] in shown
