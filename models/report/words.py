"""What was decided and why, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from models.evaluation.paired_differences import OVERALL
from models.pipeline.release_gate import PRIMARY, WORDS, Finding, Verdict
from models.report.report import Report

MOST_TOLD = 5
"""Of the differences that may be worse than allowed: the others stand in the table."""


def headline(report: Report) -> str:
    """What became of the release, in a word or two."""
    if report.verdict is None:
        return "Not judged"
    return "Released" if report.verdict.accepted else "Rejected"


def sentences(report: Report) -> list[str]:
    """The decision, on what it rests, and what spoke for or against."""
    if report.verdict is None:
        return ["No gate has seen this release: it is for measuring, and for a broker without one to begin with."]
    return [_consequence(report, report.verdict.accepted), _trial(report, report.verdict), *_grounds(report.verdict)]


def rival_named(name: str) -> str:
    """A rival of the gate's by the name it has in a sentence."""
    return WORDS[name].removesuffix("'s")


def signed(value: float, digits: int = 4) -> str:
    """With its sign, a proper minus."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def day(ts: int) -> str:
    """The UTC day of a time in ms."""
    return f"{datetime.fromtimestamp(ts / 1000, UTC):%Y-%m-%d}"


def _consequence(report: Report, accepted: bool) -> str:
    release, parent = report.manifest.id, report.manifest.parent
    if accepted:
        return f"{release} goes live, " + ("the first to serve." if parent is None else f"in place of {parent}.")
    return f"{release} does not serve; " + ("nothing does yet." if parent is None else f"{parent} stays.")


def _trial(report: Report, verdict: Verdict) -> str:
    events, users = (int(verdict.numbers[name]) for name in ("events", "users"))
    window = report.manifest.window
    return (
        f"It was tried on {events:,} events of {users:,} users between {day(window.gate_from)} and "
        f"{day(window.gate_to)}, from which nobody had learned."
    )


def _grounds(verdict: Verdict) -> Iterator[str]:
    """Those of the claims "better", then what failed of the claims "not worse", or that nothing did."""
    for one in verdict.findings:
        if one.asked == "better":
            yield _better(one, verdict.numbers[f"{PRIMARY}_candidate"])
    asked = [one for one in verdict.findings if one.asked == "not_worse"]
    worse = [one for one in asked if not one.holds]
    worst_first = sorted(worse, key=lambda one: one.difference - one.margin)
    yield from (_maybe_worse(one) for one in worst_first[:MOST_TOLD])
    if len(worse) > MOST_TOLD:
        yield f"So it is with {len(worse) - MOST_TOLD} more differences; the table of tests has them all."
    if asked and not worse:
        slices = len({one.slice for one in asked} - {OVERALL})
        where = f", and in NDCG@20 on all {slices} slices that were tested" if slices else ""
        yield f"In recall@20{where}, it is surely not worse than the margins allow."


def _better(one: Finding, ours: float) -> str:
    return (
        f"Its NDCG@20 of {ours:.4f} is {_apart(one)} {WORDS[one.rival]}, "
        f"95 % interval {signed(one.low)} to {signed(one.high)}: {'surely' if one.holds else 'not surely'} better."
    )


def _maybe_worse(one: Finding) -> str:
    where = "Overall" if one.slice == OVERALL else f"On {one.slice}"
    return (
        f"{where} its {WORDS[one.metric]} is {_apart(one)} {WORDS[one.rival]}, 95 % interval {signed(one.low)} to "
        f"{signed(one.high)}, and may be worse by more than the {-one.margin:.4f} allowed there."
    )


def _apart(one: Finding) -> str:
    return f"{abs(one.difference):.4f} {'below' if one.difference < 0 else 'above'}"
