"""`anabranch keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli.options import settings_of

app = typer.Typer()


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="Name of the key, for lists and for its removal.")],
    scope: Annotated[list[str], typer.Option(help="What it allows: events:write, rankings:read or admin; repeat it.")],
) -> None:
    """Make an API key and print it, once: the file of api_keys_file gets its hash alone. Running servers take it within
    a second.

    Example: anabranch keys create --name shop --scope events:write
    """
    from msgspec import ValidationError, convert

    from anabranch.errors import UsageError
    from anabranch.http import api_keys, key_file

    path = _path(ctx)
    try:
        text, key = api_keys.create(convert(name, api_keys.KeyName), convert(scope, list[api_keys.Scope]))
    except ValidationError as error:
        raise UsageError(
            f"--name {name} --scope {' --scope '.join(scope)}: {error}. A name has letters, digits, dots, dashes and "
            "underscores, 64 at most; scopes are events:write, rankings:read and admin"
        ) from error
    key_file.add(path, key)
    typer.echo(text)
    typer.echo(f"key {name} is in {path}; it is shown only now", err=True)


@app.command("list")
def show(ctx: typer.Context) -> None:
    """List names and scopes of the API keys.

    Example: anabranch keys list
    """
    from anabranch.http import key_file

    for key in key_file.read(_path(ctx)).keys:
        typer.echo(f"{key.name}  {', '.join(key.scopes)}")


@app.command()
def remove(ctx: typer.Context, name: Annotated[str, typer.Argument(help="Name of the key.")]) -> None:
    """Remove an API key: running servers refuse it within a second.

    Example: anabranch keys remove shop
    """
    from anabranch.http import key_file

    path = _path(ctx)
    key_file.remove(path, name)
    typer.echo(f"key {name} is removed from {path}")


def _path(ctx: typer.Context) -> Path:
    from anabranch.errors import UsageError

    path = settings_of(ctx).api_keys_file
    if path is None:
        raise UsageError(
            "api_keys_file is not set: say which file has the keys (ANABRANCH_API_KEYS_FILE, or "
            "--set api_keys_file=PATH before `keys`)"
        )
    return path
