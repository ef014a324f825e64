"""The tracker as it is served: small, cacheable, the same program as its source, and in the package."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx2
import pytest
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution
from starlette.applications import Starlette
from starlette.routing import Route

from producers.collector.tracker_script import COMMENT, FILE, TEXT, TrackerScript, compact, source

ROOT = Path(__file__).parents[4]


def get(headers: dict[str, str] | None = None) -> httpx2.Response:
    app = Starlette(routes=[Route("/tracker.js", TrackerScript().get)])

    async def work() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://collector") as client:
            return await client.get("/tracker.js", headers=headers)

    return asyncio.run(work())


def test_the_script_is_below_4_kilobytes() -> None:
    assert len(get().content) < 4_096


def test_browsers_keep_the_script_for_an_hour_and_then_ask_whether_it_changed() -> None:
    served = get()
    assert served.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert served.headers["Cache-Control"] == "public, max-age=3600"
    tag = served.headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = get({"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert get({"If-None-Match": '"other"'}).status_code == 200


def test_what_is_left_out_is_white_space_and_comments() -> None:
    def essence(script: str) -> str:
        return re.sub(r"\s|;(?=\s*})", "", COMMENT.sub("", script))

    assert essence(compact(source())) == essence(source())
    assert TEXT.findall(compact(source())) == TEXT.findall(COMMENT.sub("", source()))


@pytest.mark.parametrize(
    ("script", "compacted"),
    [
        ("// a\nlet a = 1;\n  // b\n\nlet b = a + 2;\n", "let a=1;let b=a+2;"),
        ('return "a = b; " + c;', 'return "a = b; "+c;'),
        ("if (a) {\n  b();\n}\nelse c();", "if(a){b()}else c();"),
        ("const\n  a = 1,\n  b = 2;", "const\na=1,b=2;"),
    ],
)
def test_a_script_is_compacted(script: str, compacted: str) -> None:
    assert compact(script) == compacted


def test_the_source_is_written_as_its_compaction_asks() -> None:
    code = TEXT.sub("text", COMMENT.sub("", source()))
    assert not re.findall(r"""['`"]|//|/\*""", code), "texts in double quotes, comments on lines of their own"
    assert not re.findall(r"([-+])\s+\1", code), "operators that would grow together"


def test_an_installed_package_has_the_script() -> None:
    distribution = Distribution({"packages": ["producers.collector"]})
    distribution.parse_config_files([str(ROOT / "pyproject.toml")])
    command = build_py(distribution)
    command.finalize_options()
    command.manifest_files = {}
    packaged = command.find_data_files("producers.collector", str(ROOT / "producers/collector"))
    assert FILE in [Path(file).name for file in packaged]
