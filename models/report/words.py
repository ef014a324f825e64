"""The gate's decision and its reasons in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from models.evaluation.off_policy import MIN_EXPLORED_USERS, ExposureEstimate
from models.evaluation.paired_differences import INCUMBENT, OVERALL
from models.gate.findings import METRIC_NAMES, PRIMARY, Finding, kind_of, margin_text, possessive, slice_name
from models.gate.release_gate import Verdict
from models.gate.requirements import COVERAGE, Requirement
from models.metrics.bootstrap import Interval
from models.report.report import Report

MAX_FAILURES = 5
"""Failed non-inferiority tests that get a sentence; the table of tests has all of them."""


def headline(report: Report) -> str:
    """The decision in a word or two."""
    if report.verdict is None:
        return "Not judged"
    return "Released" if report.verdict.accepted else "Rejected"


def sentences(report: Report) -> list[str]:
    """The decision, the data behind it, and the tests for and against it."""
    if report.verdict is None:
        return ["No gate has judged this release. Use it for measurements, or as the first release of a broker."]
    verdict, exposure = report.verdict, report.verdict.exposure
    explored = [] if exposure is None else [_exposure(exposure)]
    table = [] if report.table_change is None else [f"Of the co-visit table, {report.table_change}."]
    required = [_requirement(requirement) for requirement in verdict.requirements]
    decision = [_consequence(report, verdict.accepted), _evidence(report, verdict)]
    return [*decision, *_tests(verdict), *required, *explored, *table]


def outcome(finding: Finding) -> str:
    """The result of a test in a word or two, after a sign that is seen at a glance."""
    if finding.hypothesis is None:
        return "reported only"
    if finding.holds:
        return "✓ superior" if finding.hypothesis == "superior" else "✓ non-inferior"
    if finding.tolerated:
        return "~ tolerated"
    return "✗ not superior" if finding.hypothesis == "superior" else "✗ may be inferior"


def signed(value: float, digits: int = 4) -> str:
    """A number with its sign; the minus is U+2212."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def day(ts: int) -> str:
    """The UTC day of a time in ms."""
    return f"{datetime.fromtimestamp(ts / 1000, UTC):%Y-%m-%d}"


def _consequence(report: Report, accepted: bool) -> str:
    release, parent = report.manifest.id, report.manifest.parent
    if accepted:
        return f"{release} goes live" + (" as the first release." if parent is None else f" and replaces {parent}.")
    return f"{release} does not serve; " + ("no release serves yet." if parent is None else f"{parent} stays live.")


def _evidence(report: Report, verdict: Verdict) -> str:
    events, users = (int(verdict.numbers[name]) for name in ("events", "users"))
    window = report.manifest.window
    return (
        f"It was evaluated on {events:,} events of {users:,} users between {day(window.gate_from)} and "
        f"{day(window.gate_to)}; no model was trained on them.{_one_day(verdict)}"
    )


def _one_day(verdict: Verdict) -> str:
    if not verdict.findings or verdict.findings[0].days > 1:
        return ""
    return " They are of one day, so the intervals are over users alone, and other days may differ."


def _tests(verdict: Verdict) -> Iterator[str]:
    """The superiority test, the failed non-inferiority tests or that none failed, what is tolerated, what is pooled."""
    for finding in verdict.findings:
        if finding.hypothesis == "superior":
            yield _superiority(finding, verdict.numbers[f"{PRIMARY}_candidate"])
    tested = [finding for finding in verdict.findings if finding.hypothesis == "non_inferior"]
    failed = [finding for finding in tested if not finding.holds]
    worst_first = sorted(failed, key=lambda finding: (finding.tolerated, finding.difference - finding.margin))
    yield from (_possible_inferiority(finding) for finding in worst_first[:MAX_FAILURES])
    if len(failed) > MAX_FAILURES:
        yield f"{len(failed) - MAX_FAILURES} more non-inferiority tests failed; the table of tests has all of them."
    if tested and not failed:
        slices = {finding.slice for finding in tested} - {OVERALL}
        where = f", and in NDCG@20 on all {len(slices)} tested {kind_of(slices)}" if slices else ""
        yield f"It is non-inferior overall in NDCG@20 and recall@20{where}."
    if verdict.pooled:
        yield f"Tested together, because each has few users: {', '.join(map(slice_name, verdict.pooled))}."


def _superiority(finding: Finding, mean: float) -> str:
    return (
        f"Its NDCG@20 of {mean:.4f} is {_difference(finding)}: "
        f"{'superior' if finding.holds else 'not significantly superior'}."
    )


def _possible_inferiority(finding: Finding) -> str:
    scope = "Overall" if finding.slice == OVERALL else f"On {slice_name(finding.slice)}"
    tolerated = " The settings tolerate it." if finding.tolerated else ""
    return (
        f"{scope} its {METRIC_NAMES[finding.metric]} is {_difference(finding)}; "
        f"it may be worse by more than the margin of {margin_text(finding)}.{tolerated}"
    )


def _requirement(requirement: Requirement) -> str:
    """What else the candidate has to keep to, and whether it does."""
    result = "kept" if requirement.holds else "not kept"
    ours, theirs, limit = requirement.candidate, requirement.incumbent, requirement.limit
    if requirement.name == COVERAGE:
        return f"Its slates have {ours:,.0f} items, and the incumbent's {theirs:,.0f}; at least {limit:,.0f}: {result}."
    return (
        f"The calibration error of its purchase head is {ours:.4f}, and the incumbent's {theirs:.4f}; at most "
        f"{limit:.4f}: {result}."
    )


def _exposure(exposure: ExposureEstimate) -> str:
    """The estimate from explored places, and whether it counts."""
    if not exposure.is_used:
        consequence = (
            f"not used, because {exposure.explored_users:,} users had an event at an explored place, and "
            f"{MIN_EXPLORED_USERS} are needed"
        )
    else:
        consequence = "not significantly below" if exposure.holds else "significantly below"
    difference = _against(INCUMBENT, exposure.improvement)
    return f"Estimated from explored places, its NDCG@20 is {difference}: {consequence}."


def _difference(finding: Finding) -> str:
    return _against(finding.comparator, finding)


def _against(comparator: str, improvement: Finding | Interval) -> str:
    direction = "below" if improvement.difference < 0 else "above"
    return (
        f"{abs(improvement.difference):.4f} {direction} {possessive(comparator)}, "
        f"95 % interval {signed(improvement.low)} to {signed(improvement.high)}"
    )
