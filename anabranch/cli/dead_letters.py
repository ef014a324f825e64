"""`anabranch dead-letters`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from anabranch.cli.options import settings_of

if TYPE_CHECKING:
    from anabranch.messages import DeadLetterCategory
    from consumers.dead_letter_admin import ReplayResult

app = typer.Typer()


@app.command("show")
def show_letters(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="Number of dead letters to print.")] = 10,
    reason: Annotated[str | None, typer.Option(help="Only those of this category, such as invalid.")] = None,
    payload: Annotated[
        str | None,
        typer.Option(metavar="PARTITION:OFFSET", help="Write the original bytes of this dead letter instead."),
    ] = None,
) -> None:
    """Print the newest dead letters, one JSON line each. Reads the whole topic.

    Example: anabranch dead-letters show --reason wrong_key --limit 3
    """
    import msgspec

    from anabranch.kafka import clients
    from consumers import dead_letter_admin

    settings = settings_of(ctx)
    category = None if reason is None else _category(reason)
    position = None if payload is None else _position(payload)
    clients.require_topics(settings)
    if position is not None:
        typer.echo(dead_letter_admin.original_payload(settings, *position), nl=False)
        return
    for letter in dead_letter_admin.list_newest(settings, limit, category):
        typer.echo(msgspec.json.encode(letter))


@app.command("replay")
def replay_letters(
    ctx: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be replayed, and publish nothing.")
    ] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="Replay also what was replayed before.")] = False,
) -> None:
    """Publish every dead letter to its original topic again, exactly once, unless it was replayed before.

    A record that is still not valid becomes a new dead letter. A replayed item replaces newer versions of the item.

    Example: anabranch dead-letters replay --dry-run
    """
    from anabranch.kafka import clients
    from consumers import dead_letter_admin

    settings = settings_of(ctx)
    clients.require_topics(settings)
    _say(
        [dead_letter_admin.preview_replay(settings, from_start)]
        if dry_run
        else dead_letter_admin.replay(settings, from_start=from_start),
        "would go" if dry_run else "went",
    )


def _say(replayed: Iterable[ReplayResult], verb: str) -> None:
    """Every refusal as it comes, then the number of records by topic."""
    sent, refused = Counter[str](), 0
    for batch in replayed:
        sent.update(batch.sent)
        refused += len(batch.refused)
        for line in batch.refused:
            typer.echo(f"anabranch: not replayed: {line}", err=True)
    for topic, count in sorted(sent.items()):
        typer.echo(f"{count} {verb} to {topic}")
    if refused or not sent:
        typer.echo(f"{refused} cannot be replayed" if refused else "there is nothing to replay")


def _category(name: str) -> DeadLetterCategory:
    from typing import get_args

    from anabranch.errors import UsageError
    from anabranch.messages import DeadLetterCategory

    categories: tuple[DeadLetterCategory, ...] = get_args(DeadLetterCategory)
    for category in categories:
        if category == name:
            return category
    raise UsageError(f"{name} is not a category of dead letters; the categories are {', '.join(categories)}")


def _position(text: str) -> tuple[int, int]:
    from anabranch.errors import UsageError

    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal() and len(text) < 40):
        raise UsageError(f"--payload {text}: give PARTITION:OFFSET in the topic of dead letters, such as 0:17")
    return int(partition), int(offset)
