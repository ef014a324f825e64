"""`anabranch dead-letters`: what could not be read, as JSON lines, and putting it back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from anabranch.cli.options import settings_of

if TYPE_CHECKING:
    from consumers.dead_letter_admin import Replayed
    from consumers.runtime.dead_letter import Category

app = typer.Typer()


@app.command("show")
def show_letters(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="Print the newest so many.")] = 10,
    reason: Annotated[str | None, typer.Option(help="Only those of a category, such as invalid.")] = None,
    payload: Annotated[
        str | None, typer.Option(metavar="PARTITION:OFFSET", help="Write one letter's original bytes instead.")
    ] = None,
) -> None:
    """Print dead letters, one JSON line each, the newest last. Reads the whole topic.

    Example: anabranch dead-letters show --reason wrong_key --limit 3
    """
    import msgspec

    from anabranch.kafka import clients
    from consumers import dead_letter_admin

    settings = settings_of(ctx)
    category = None if reason is None else _category(reason)
    place = None if payload is None else _place(payload)
    clients.require_topics(settings)
    if place is not None:
        typer.echo(dead_letter_admin.payload(settings, *place), nl=False)
        return
    for letter in dead_letter_admin.show(settings, limit, category):
        typer.echo(msgspec.json.encode(letter))


@app.command("replay")
def replay_letters(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be replayed, and send nothing.")] = False,
) -> None:
    """Put every dead letter that was not replayed before back on the topic it came from, exactly once.

    What is still unreadable becomes a new dead letter. An item put back replaces what came under its id since.

    Example: anabranch dead-letters replay --dry-run
    """
    from anabranch.kafka import clients
    from consumers import dead_letter_admin

    settings = settings_of(ctx)
    clients.require_topics(settings)
    _say(
        [dead_letter_admin.waiting(settings)] if dry_run else dead_letter_admin.replay(settings),
        "would go" if dry_run else "went",
    )


def _say(replayed: Iterable[Replayed], verb: str) -> None:
    """Each refusal as it comes, then how many letters went where."""
    sent, refused = Counter[str](), 0
    for one in replayed:
        sent.update(one.sent)
        refused += len(one.refused)
        for line in one.refused:
            typer.echo(f"anabranch: stays among the dead letters: {line}", err=True)
    for topic, count in sorted(sent.items()):
        typer.echo(f"{count} {verb} to {topic}")
    if refused or not sent:
        typer.echo(f"{refused} cannot be replayed" if refused else "there is nothing to replay")


def _category(name: str) -> Category:
    from typing import get_args

    from anabranch.errors import UsageError
    from consumers.runtime.dead_letter import Category

    categories: tuple[Category, ...] = get_args(Category)
    for category in categories:
        if category == name:
            return category
    raise UsageError(f"{name} is no category of dead letters; there are {', '.join(categories)}")


def _place(text: str) -> tuple[int, int]:
    from anabranch.errors import UsageError

    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal() and len(text) < 40):
        raise UsageError(f"--payload {text}: give PARTITION:OFFSET among the dead letters, such as 0:17")
    return int(partition), int(offset)
