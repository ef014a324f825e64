"""JSON bodies of requests, decoded to a type, or a problem that says at which byte they fail. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import TypeVar

import msgspec

from anabranch.http.problems import HttpProblem

Content = TypeVar("Content")


def decode_json(decoder: msgspec.json.Decoder[Content], body: bytes, remedy: str) -> Content:
    """The body. Raises `HttpProblem` (400), which ends with the remedy."""
    try:
        return decoder.decode(body)
    except RecursionError as error:
        raise _no_json("its lists and objects are nested too deep", remedy) from error
    except msgspec.ValidationError as error:
        raise HttpProblem(HTTPStatus.BAD_REQUEST, f"the body cannot be read: {error}. {remedy}") from error
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        where = f"it ends at byte {len(body)}, too early" if "truncated" in reason else reason
        raise _no_json(where, remedy) from error
    except UnicodeDecodeError as error:  # which msgspec 0.19 lets through; its position is that in the text
        raise _no_json("a text in it is no UTF-8", remedy) from error


def _no_json(reason: str, remedy: str) -> HttpProblem:
    return HttpProblem(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {reason}. {remedy}")
