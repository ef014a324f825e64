"""`anabranch rules`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anabranch.cli.options import settings_of
from anabranch.cli.output import moment, show_json

if TYPE_CHECKING:
    from anabranch.messages import Rule, RuleChange
    from anabranch.settings import Settings

app = typer.Typer()

SHOWN_VALUES = 3
"""Of a condition, in a list of rules."""

By = Annotated[str | None, typer.Option(metavar="NAME", help="Who changes it, for the history. Default: this login.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RuleFile = Annotated[Path, typer.Argument(help="A JSON file: one rule, or a list of them.", dir_okay=False)]


@app.command()
def put(ctx: typer.Context, file: RuleFile, by: By = None) -> None:
    """Add the rules of a file, each in place of one with its id. Rankers apply them to their next rankings.

    All of them are checked first, and if one is faulty, none is changed.

    Example: anabranch rules put summer.json
    """
    from anabranch.input_files.rules import read_rule_file

    settings = settings_of(ctx)
    rules = {rule.rule_id: rule for rule in read_rule_file(file)}
    _require_placements(settings, rules.values())
    _say(_change(settings, dict(rules), by), len(rules))


@app.command()
def remove(
    ctx: typer.Context, rule_ids: Annotated[list[str], typer.Argument(help="Ids of rules.")], by: By = None
) -> None:
    """Remove rules.

    Example: anabranch rules remove summer-hats
    """
    from anabranch.errors import UsageError
    from anabranch.kafka import clients
    from anabranch.kafka.rule_topic import read_rules

    settings = settings_of(ctx)
    clients.require_topics(settings)
    rules = read_rules(settings)
    unknown = [rule_id for rule_id in rule_ids if rule_id not in rules]
    if unknown:
        raise UsageError(f"there is no rule {', '.join(unknown)}; `anabranch rules list` lists them")
    _say(_change(settings, dict.fromkeys(rule_ids), by), len(rule_ids))


@app.command("list")
def list_rules(ctx: typer.Context, json: Json = False) -> None:
    """List the rules, and which of them hold now.

    Example: anabranch rules list
    """
    import time

    import msgspec
    from rich.markup import escape
    from rich.table import Table

    from anabranch.console import output_console
    from anabranch.kafka import clients
    from anabranch.kafka.rule_topic import read_rules

    settings = settings_of(ctx)
    clients.require_topics(settings)
    rules = [rule for _, rule in sorted(read_rules(settings).items())]
    if json:
        show_json(msgspec.to_builtins(rules))
        return
    now_ms = time.time_ns() // 1_000_000
    table = Table("rule", "does", "to items with", "on", "holds", "note")
    for rule in rules:
        cells = (rule.rule_id, *_described(rule), _span(rule, now_ms), rule.note)
        table.add_row(*map(escape, cells))
    output_console().print(table)


@app.command()
def history(
    ctx: typer.Context, rule_id: Annotated[str | None, typer.Argument(help="Of this rule alone.")] = None
) -> None:
    """Print who changed which rule, when, and from what to what, oldest first, as JSON lines.

    Example: anabranch rules history summer-hats
    """
    import msgspec

    from anabranch.kafka import clients
    from anabranch.kafka.rule_topic import read_changes

    settings = settings_of(ctx)
    clients.require_topics(settings)
    for change in read_changes(settings):
        if rule_id in (None, change.rule_id):
            typer.echo(msgspec.json.encode(change))


@app.command()
def preview(
    ctx: typer.Context,
    user_id: Annotated[str, typer.Argument(help="The user's id.")],
    file: Annotated[
        Path | None,
        typer.Option(
            "--with", help="Rules to try, as if they held now. Without a file: what those that hold do.", dir_okay=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show a user's slates without and with rules, ranked here after the user's newest action. Changes nothing.

    Reads the topics that a ranker reads, and the user's events.

    Example: anabranch rules preview 2375 --with summer.json
    """
    from anabranch.cli.inspected_user import read_ranking
    from anabranch.input_files.rules import read_rule_file
    from anabranch.ranking.rules.rule_book import numbered, with_tried

    settings = settings_of(ctx)
    tried = [] if file is None else read_rule_file(file)
    _require_placements(settings, tried)
    ranking, holding = read_ranking(settings, user_id)
    before = ranking.slates([] if file is None else holding)
    after = ranking.slates(with_tried(holding, [numbered(rule, ranking.item_ids) for rule in tried]))
    if json:
        show_json({"before": before, "after": after})
    else:
        headings = ("without rules", "with those that hold") if file is None else ("as it is", f"with {file.name}")
        _show_slates(settings, headings, before, after)


def _change(settings: Settings, new: dict[str, Rule | None], by: str | None) -> list[RuleChange]:
    import time

    from anabranch.kafka import clients
    from anabranch.kafka.rule_topic import change_rules

    clients.require_topics(settings)
    return change_rules(settings, new, by or _login(), time.time_ns() // 1_000_000)


def _login() -> str:
    import getpass

    from anabranch.errors import UsageError

    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # as in a container whose user has no name
        raise UsageError("this login has no name: say with --by who changes the rules") from error


def _say(changes: list[RuleChange], wanted: int) -> None:
    from anabranch.input_files.faults import counted

    for change in changes:
        done = "removed" if change.after is None else "added" if change.before is None else "changed"
        typer.echo(f"rule {change.rule_id} {done}")
    if len(changes) < wanted:
        typer.echo(f"{counted(wanted - len(changes), 'rule')} unchanged")


def _require_placements(settings: Settings, rules: Iterable[Rule]) -> None:
    """Raise `UsageError` for a rule of a placement that the settings do not have."""
    from anabranch.rules import require_placements

    require_placements(rules, [placement.name for placement in settings.placements])


def _described(rule: Rule) -> tuple[str, str, str]:
    """What a rule does, to items with what, and where."""
    by = "" if rule.factor is None else f" by {rule.factor:g}"
    at = "" if rule.position is None else f" at {rule.position}"
    named = {
        "id": rule.items,
        "brand": rule.brands,
        "category": [" > ".join(path) for path in rule.categories],
        "domain": rule.domains,
    }
    conditions = [f"{name} {_shortened(values)}" for name, values in named.items() if values]
    if rule.price_from is not None:
        conditions.append(f"price from {rule.price_from:g}")
    if rule.price_below is not None:
        conditions.append(f"price below {rule.price_below:g}")
    return f"{rule.action}{by}{at}", "; ".join(conditions), ", ".join(rule.placements) or "every placement"


def _shortened(values: list[str]) -> str:
    shown = ", ".join(values[:SHOWN_VALUES])
    return shown if len(values) <= SHOWN_VALUES else f"{shown} and {len(values) - SHOWN_VALUES} more"


def _span(rule: Rule, now_ms: int) -> str:
    """Whether a rule holds, and since or until when."""
    if rule.starts is not None and now_ms < rule.starts:
        return f"from {moment(rule.starts)}"
    if rule.ends is None:
        return "yes"
    return f"until {moment(rule.ends)}" if rule.holds_at(now_ms) else f"ended {moment(rule.ends)}"


def _show_slates(
    settings: Settings, headings: tuple[str, str], before: dict[str, list[str]], after: dict[str, list[str]]
) -> None:
    """A table for each placement; items that moved or came are bold."""
    from itertools import zip_longest

    from rich.markup import escape
    from rich.table import Table

    from anabranch.console import output_console
    from anabranch.inspection.item_titles import read_titles

    titles = read_titles(settings, {item for slates in (before, after) for slate in slates.values() for item in slate})
    for placement, was in before.items():
        table = Table("place", *headings, title=placement, title_justify="left")
        for place, (old, new) in enumerate(zip_longest(was, after[placement], fillvalue=""), start=1):
            cells = [escape(f"{item}  {titles.get(item, '')}".rstrip()) for item in (old, new)]
            table.add_row(str(place), cells[0], cells[1] if old == new else f"[bold]{cells[1]}[/bold]")
        output_console().print(table)
