"""The page of results in sections: what is not measured anew stays as the page had it.

All measurements together take many hours. So that the page can be renewed one data set at a time, a section without any
figure is replaced by the section of the same headings of the page before.
"""

from __future__ import annotations

from collections.abc import Iterator

Headings = tuple[str, str]
"""Of a section: `## …` and, empty in front of the first, `### …`."""
MEASURED = (" ± ", "(one seed)", " [+", " [-")
"""What a spread or an interval is written with: a section with none of them has no figure that was measured."""


def keep_measured(page: str, earlier: str) -> str:
    """The page, with the sections of an earlier one where it has no figures itself."""
    earlier_texts = dict(_sections(earlier))
    return "".join(_with_figures(text, earlier_texts.get(headings)) for headings, text in _sections(page))


def _with_figures(text: str, earlier: str | None) -> str:
    if earlier is None or _is_measured(text) or not _is_measured(earlier):
        return text
    return earlier


def _is_measured(text: str) -> bool:
    return any(mark in text for mark in MEASURED)


def _sections(page: str) -> Iterator[tuple[Headings, str]]:
    """Each section's headings and its text with them. What comes before the first heading has empty ones."""
    headings: Headings = ("", "")
    lines: list[str] = []
    for line in page.splitlines(keepends=True):
        if line.startswith(("## ", "### ")):
            yield headings, "".join(lines)
            headings = (line, "") if line.startswith("## ") else (headings[0], line)
            lines = []
        lines.append(line)
    yield headings, "".join(lines)
