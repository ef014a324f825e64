"""`anabranch inspect`: what stands in the topics, as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from anabranch.cli.options import settings_of
from anabranch.settings import Settings

app = typer.Typer()


@app.command("settings")
def show_settings(ctx: typer.Context) -> None:
    """Print every setting as this command line and environment make it; secrets are not shown.

    Example: anabranch --set linger_ms=5 inspect settings
    """
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(settings_of(ctx).public()), indent=2))


@app.command()
def topic(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A topic of the design, without prefix, such as rankings.")],
    limit: Annotated[int, typer.Option(min=1, help="Print the newest so many messages.")] = 10,
) -> None:
    """Print the newest messages of a topic, decoded, one JSON line each. Reads the whole topic.

    Example: anabranch inspect topic rankings --limit 3
    """
    from collections import deque

    settings = settings_of(ctx)
    for line in deque(_records(settings, [_known(name)]), maxlen=limit):
        _print(line)


@app.command()
def event(ctx: typer.Context, event_id: Annotated[str, typer.Argument(help="The event's id.")]) -> None:
    """Print an event and what came of it: its ranking, its feedback, or its dead letter. Reads the whole topics.

    Example: anabranch inspect event 26984851472-1004906
    """
    from anabranch.errors import UsageError

    found = False
    for line in _records(settings_of(ctx), ["events", "rankings", "feedback", "events.dead-letter"]):
        if _is_about(line, event_id):
            found = True
            _print(line)
    if not found:
        raise UsageError(f"no message is about an event {event_id}")


@app.command()
def user(
    ctx: typer.Context,
    user_id: Annotated[str, typer.Argument(help="The user's id.")],
    limit: Annotated[int, typer.Option(min=1, help="Print the newest so many rankings.")] = 1,
) -> None:
    """Print a user's state, as a ranker would restore it, and newest rankings. Reads the whole topics.

    Example: anabranch inspect user 2375 --limit 3
    """
    from collections import deque

    from anabranch import messages
    from anabranch.errors import UsageError
    from anabranch.kafka import clients
    from anabranch.kafka.log_reader import KafkaLogReader
    from anabranch.kafka.topics import Topics
    from consumers.ranker.dead_letter_offsets import Buried

    settings = settings_of(ctx)
    clients.require_topics(settings)
    buried = Buried(KafkaLogReader(settings), Topics(settings))
    for _ in buried.catch_up():
        pass
    events: list[tuple[messages.Event, int]] = []
    rankings: deque[dict[str, Any]] = deque(maxlen=limit)
    for line in _records(settings, ["events", "rankings"]):
        if line["key"] != user_id:
            continue
        if line["topic"] == "rankings":
            rankings.append(line)
        elif isinstance(line["message"], messages.Event) and not buried.holds(line["partition"], line["offset"]):
            events.append((line["message"], line["timestamp"]))
    if not events:
        raise UsageError(f"no event is of a user {user_id}")
    _print({"user_id": user_id, "state": _state(settings, events)})
    for line in rankings:
        _print(line)


@app.command("state")
def show_state(ctx: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print how many bytes a user's state takes, in the log and in memory. Reads the whole topic of states.

    Example: anabranch inspect state --json
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from anabranch.cli.state_sizes import measure
    from anabranch.kafka import clients

    settings = settings_of(ctx)
    clients.require_topics(settings)
    sizes = measure(settings)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(sizes), indent=2))
        return
    saved, memory = (
        ", ".join(f"{name} {value:,.0f}" for name, value in sizes[of].items())
        for of in ("saved_bytes_per_user", "memory_bytes_per_user")
    )
    table = Table("user states", "")
    table.add_row("users saved", f"{sizes['users']:,}")
    table.add_row("bytes a user, saved", saved or "none saved")
    table.add_row("bytes a user, in memory", memory or "none saved")
    table.add_row("bytes a user, in memory, at most", f"{sizes['memory_bytes_per_user_at_most']:,}")
    table.add_row("users in memory, at most", f"{sizes['max_users']:,}")
    table.add_row("bytes in memory, at most", f"{sizes['memory_bytes_at_most']:,}")
    Console().print(table)


def _state(settings: Settings, events: list[tuple[Any, int]]) -> dict[str, Any]:
    """What a fold over the user's events, each with the time of its append, keeps, in words."""
    from collections import Counter

    from anabranch.ranking.pipeline.rank import Batch, fold
    from anabranch.ranking.user_state.store import StateLayout, UserStates
    from anabranch.ranking.vocabulary import ItemIds

    layout = StateLayout.of(settings)
    states, item_ids = UserStates(layout, dims=1, state_dims=1), ItemIds()
    slots = states.slots(one.user_id for one, _ in events)
    fold(states, Batch.of([one for one, _ in events], slots, item_ids, [appended_ms for _, appended_ms in events]))
    columns, slot = states.columns, int(slots[0])
    recent = [item_ids.id(int(row)) for row in states.recent(slots[:1], layout.history)[0] if row >= 0]
    before, size = states.copy(slots[:1]).lists, int(columns.own_size[slot])
    own = Counter(recent)
    for row, count in zip(before.own_item[0, :size].tolist(), before.own_count[0, :size].tolist(), strict=True):
        own[item_ids.id(row)] += int(count)
    return {
        "events": len(events),
        "newest_ts": int(columns.last_ts[slot]),
        "session_length": int(columns.session_length[slot]),
        "history": recent,
        "own_items": dict(own.most_common()),
    }


def _records(settings: Settings, names: list[str]) -> Iterator[dict[str, Any]]:
    """Every message of the topics as a JSON line's content."""
    from anabranch.kafka import clients
    from anabranch.kafka.topics import Topics

    clients.require_topics(settings)
    by_name = {f"{settings.topic_prefix}{name}": name for name in names}
    assert by_name.keys() <= {one.name for one in Topics(settings).all}
    for record in clients.read_to_end(settings, by_name):
        yield {
            "topic": by_name[record.topic],
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": None if record.key is None else record.key.decode(errors="replace"),
            "headers": {name: (value or b"").decode(errors="replace") for name, value in record.headers},
            "message": _decoded(by_name[record.topic], record.value),
        }


def _decoded(name: str, value: bytes | None) -> Any:
    """The message as its type; text where it is none, None for a tombstone."""
    from anabranch import messages

    codec: messages.Codec[Any] | None = getattr(messages, name.replace("-", "_"), None)
    if value is None or codec is None:
        return None if value is None else value.decode(errors="replace")
    try:
        return codec.decode(value)
    except messages.InvalidMessage as invalid:
        return {"invalid": invalid.reason, "payload": value.decode(errors="replace")}


def _is_about(line: dict[str, Any], event_id: str) -> bool:
    from anabranch import messages

    match line["message"]:
        case messages.Event() as one:
            return one.event_id == event_id
        case messages.Ranking() as ranking:
            return ranking.cause.event_id == event_id
        case messages.Feedback() as feedback:
            return feedback.event.event_id == event_id
        case str() as payload:
            return f'"{event_id}"' in payload
    return False


def _known(name: str) -> str:
    from typing import get_args

    from anabranch.errors import UsageError
    from anabranch.kafka.topics import TopicName

    if name not in get_args(TopicName):
        raise UsageError(f"{name} is no topic; there are {', '.join(get_args(TopicName))}")
    return name


def _print(line: dict[str, Any]) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(line))
