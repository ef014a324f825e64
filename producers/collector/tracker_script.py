"""`GET /tracker.js`: the script that sends a page's events."""

from __future__ import annotations

import re
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

FILE = "tracker.js"
MEDIA_TYPE = "text/javascript; charset=utf-8"
MAX_AGE_S = 3_600
"""For so long browsers keep the script without asking: a new version of it is everywhere an hour later."""
COMMENT = re.compile(r"^\s*//.*\n", re.MULTILINE)
TEXT = re.compile(r'("[^"\n]*")')
SPACE = re.compile(r"\s*([-=+*/<>?:&|(){}\[\],;!])\s*|(\s)\s+")


class TrackerScript:
    """The script, as it is in this version."""

    def __init__(self) -> None:
        self._body = compact(source()).encode()
        self._headers = {
            "Cache-Control": f"public, max-age={MAX_AGE_S}",
            "ETag": f'"{sha256(self._body).hexdigest()[:32]}"',
            "Cross-Origin-Resource-Policy": "cross-origin",  # pages with COEP load it too
            "X-Content-Type-Options": "nosniff",
        }

    async def get(self, request: Request) -> Response:
        """200, or 304 if the browser has this version. Needs no key."""
        tags = request.headers.get("if-none-match", "").split(",")
        if self._headers["ETag"] in [tag.strip().removeprefix("W/") for tag in tags]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=self._headers)
        return Response(self._body, headers=self._headers, media_type=MEDIA_TYPE)


def source() -> str:
    """The script with its comments, as it is in this package."""
    return files("producers.collector").joinpath(FILE).read_text("utf-8")


def compact(script: str) -> str:
    """The script without comments and without white space that the language does not need.

    For a script that has its comments on lines of their own and its texts in double quotes on one line, and that needs
    no space between operators, as `a + +b` does.
    """
    parts = TEXT.split(COMMENT.sub("", script))
    code = [SPACE.sub(r"\1\2", part).replace(";}", "}") for part in parts[::2]]
    return "".join(part for pair in zip(code, [*parts[1::2], ""], strict=True) for part in pair)
