"""Every error a command reports in one line; anything else is a defect and shows its traceback.

AnabranchError
├── UsageError               what was asked for cannot be done; exit code 2
│   ├── SettingsError        settings that do not hold, all of them at once
│   └── InvalidRow           a row of an input file, by number, field and remedy
├── ReleaseError             a release folder that may not serve (anabranch.release)
├── BrokerUnavailable        no broker answers at `bootstrap_servers`
├── BrokerRefused            one answers, and it or this process does not trust the other
├── BrokerFailed             a broker answered with an error that trying again does not mend
├── TopicsDiffer             topics are missing or are not what the design says
├── Fenced                   another process has taken this one's transactional id
└── BackgroundFailure        a thread of this process died
"""

from __future__ import annotations

from collections.abc import Sequence


class AnabranchError(Exception):
    """Root. Its message is one clear line for the person at the terminal: what, why, remedy."""

    exit_code = 1


class UsageError(AnabranchError):
    """What was asked for cannot be done."""

    exit_code = 2


class SettingsError(UsageError):
    """Settings that do not hold; `problems` has one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(["these settings do not hold:", *(f"  {problem}" for problem in problems)]))
        self.problems = tuple(problems)


class InvalidRow(UsageError):
    """A row of an input file that is no message; the row counts from 1, the header left out."""

    def __init__(self, source: str, row: int, problem: str) -> None:
        super().__init__(f"{source}, row {row}: {problem}")
        self.source = source
        self.row = row
        self.problem = problem


class BrokerUnavailable(AnabranchError):
    """No broker answers at `bootstrap_servers`."""


class BrokerRefused(AnabranchError):
    """A broker answers, and either it does not take this user, or this process does not take its certificate."""


class BrokerFailed(AnabranchError):
    """A broker answered with an error that trying again does not mend."""


class TopicsDiffer(AnabranchError):
    """Topics are missing or are not what the design says; `differences` has one line for each."""

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__("\n".join(["the topics are not as they should be:", *(f"  {line}" for line in differences)]))
        self.differences = tuple(differences)


class Fenced(AnabranchError):
    """Another process has taken this one's transactional id: this one must stop."""


class BackgroundFailure(AnabranchError):
    """A thread of this process died, and the process must not go on without it."""
