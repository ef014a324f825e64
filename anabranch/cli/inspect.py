"""`anabranch inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from anabranch.cli.options import settings_of
from anabranch.cli.output import show_json

if TYPE_CHECKING:
    from anabranch.inspection.told_reasons import ToldReason

app = typer.Typer()


@app.command("settings")
def show_settings(ctx: typer.Context) -> None:
    """Print the value of every setting, from the defaults, the file, the environment and this command line, as JSON.

    Secrets are redacted.

    Example: anabranch --set linger_ms=5 inspect settings
    """
    show_json(settings_of(ctx).public())


@app.command()
def topic(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the topic without topic_prefix, such as rankings.")],
    limit: Annotated[int, typer.Option(min=1, help="Number of messages to print.")] = 10,
) -> None:
    """Print the newest messages of a topic, decoded, one JSON line each. Reads the whole topic.

    Example: anabranch inspect topic rankings --limit 3
    """
    from collections import deque

    from anabranch.inspection.topic_messages import read_messages, topic_name

    for message in deque(read_messages(settings_of(ctx), [topic_name(name)]), maxlen=limit):
        _print(message)


@app.command()
def event(ctx: typer.Context, event_id: Annotated[str, typer.Argument(help="The event's id.")]) -> None:
    """Print an event and its results: its ranking, and its feedback or dead letter. Reads the whole topics.

    Example: anabranch inspect event 26984851472-1004906
    """
    from anabranch.errors import UsageError
    from anabranch.inspection.topic_messages import EVENT_TOPICS, read_messages

    count = 0
    for message in read_messages(settings_of(ctx), EVENT_TOPICS):
        if message.is_about(event_id):
            count += 1
            _print(message)
    if count == 0:
        raise UsageError(f"no topic has a message about event {event_id}")


@app.command()
def user(
    ctx: typer.Context,
    user_id: Annotated[str, typer.Argument(help="The user's id.")],
    limit: Annotated[int, typer.Option(min=1, help="Number of rankings to print.")] = 1,
) -> None:
    """Print a user's state, rebuilt from the events, and the user's newest rankings. Reads the whole topics.

    Example: anabranch inspect user 2375 --limit 3
    """
    from anabranch.cli.inspected_user import read_user

    settings = settings_of(ctx)
    history = read_user(settings, user_id, limit)
    _print({"user_id": user_id, "state": history.state(settings)})
    for ranking in history.rankings:
        _print(ranking)


@app.command()
def ranking(
    ctx: typer.Context,
    user_id: Annotated[str, typer.Argument(help="The user's id.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a user's slates with the reasons: what brought each item, what its score is made of, and what rules added.

    The ranking is made here, after the user's newest action, from what the topics hold now. Reads the topics that a
    ranker reads, and the user's events.

    Example: anabranch inspect ranking 2375
    """
    import msgspec

    from anabranch.cli.inspected_user import read_ranking
    from anabranch.inspection.item_titles import read_titles
    from anabranch.inspection.told_reasons import mentioned_items, reasons_by_placement, tell

    settings = settings_of(ctx)
    user_ranking, holding = read_ranking(settings, user_id)
    reasons = reasons_by_placement(user_ranking, holding)
    told = tell(user_ranking, reasons, holding, read_titles(settings, mentioned_items(user_ranking, reasons)))
    if json:
        show_json(msgspec.to_builtins(told))
        return
    for placement, of_slate in told.items():
        _show_reasons(placement, of_slate)


@app.command("state")
def show_state(ctx: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print how many bytes a user state takes, saved and in memory. Reads the whole topic of user states.

    Example: anabranch inspect state --json
    """
    from rich.table import Table

    from anabranch.console import output_console
    from anabranch.inspection.state_sizes import measure
    from anabranch.kafka import clients

    settings = settings_of(ctx)
    clients.require_topics(settings)
    sizes = measure(settings)
    if json:
        show_json(sizes)
        return
    saved, memory = (
        ", ".join(f"{statistic} {value:,.0f}" for statistic, value in sizes[name].items())
        for name in ("saved_bytes_per_user", "memory_bytes_per_user")
    )
    table = Table("user states", "")
    table.add_row("saved user states", f"{sizes['users']:,}")
    table.add_row("bytes per user, saved", saved or "none saved")
    table.add_row("bytes per user, in memory", memory or "none saved")
    table.add_row("bytes per user, in memory, at most", f"{sizes['memory_bytes_per_user_at_most']:,}")
    table.add_row("users in memory, at most (max_users)", f"{sizes['max_users']:,}")
    table.add_row("bytes of all users in memory, at most", f"{sizes['memory_bytes_at_most']:,}")
    output_console().print(table)


def _show_reasons(placement: str, reasons: list[ToldReason]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from anabranch.console import output_console

    table = Table("place", "item", "why", title=placement, title_justify="left", show_lines=True)
    for place, reason in enumerate(reasons, start=1):
        name, why = f"{reason.item_id}\n{reason.title}".rstrip(), "\n".join([*reason.because, _score_of(reason)])
        table.add_row(str(place), escape(name), escape(why))
    output_console().print(table)


def _score_of(reason: ToldReason) -> str:
    """What a score is made of, the largest part first."""
    parts = reason.contributions | {"rules": reason.by_rules}
    by_size = sorted(parts.items(), key=lambda part: -abs(part[1]))
    told = [
        f"{'-' if part < 0 else '+'} {name} {abs(part):.2f}" for name, part in by_size if f"{abs(part):.2f}" != "0.00"
    ]
    return " ".join([f"score {reason.score:.2f} = mean of the candidates {reason.base:.2f}", *told])


def _print(line: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(line))
