"""`anabranch schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path | None, typer.Option(help="Output folder. Default: the folder in the package.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing, and fail if a file is out of date.")] = False,
) -> None:
    """Write the JSON Schemas of the messages, the AsyncAPI document of the topics, and the OpenAPI documents of
    `anabranch collect` and `anabranch serve`, all generated from the code.

    Example: anabranch schema --folder schemas
    """
    from anabranch import schema_export
    from anabranch.errors import AnabranchError

    target, files = folder or schema_export.FOLDER, generate()
    if not check:
        schema_export.write(files, target)
    old = schema_export.outdated(files, target)
    if old:
        raise AnabranchError(f"out of date in {target}: {', '.join(old)}; run `anabranch schema` to write them")
    typer.echo(f"{len(files)} files in {target} are up to date")


def generate() -> dict[str, bytes]:
    """File name → content of every generated file."""
    from anabranch.http.openapi import openapi_document
    from anabranch.kafka import asyncapi
    from anabranch.schema_export import as_file, message_schemas
    from consumers.api.routes import operations as serve
    from producers.collector import operations as collect

    documents = {asyncapi.FILE: asyncapi.asyncapi_document()} | {
        of_server.API.file: openapi_document(of_server.API, of_server.OPERATIONS) for of_server in (collect, serve)
    }
    return message_schemas() | {name: as_file(document) for name, document in documents.items()}
