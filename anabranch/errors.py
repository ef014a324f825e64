"""The errors that a command prints as a message without a traceback. Any other exception is a defect.

AnabranchError
├── UsageError               a wrong option, file or setting; exit code 2
│   ├── SettingsError        wrong settings, all in one error
│   └── FaultyFile           rows of an input file that cannot be read (anabranch.input_files)
├── DataError                a data folder that is not in the neutral format (models.data)
├── NotEnoughData            too few events to train, to divide or to test (models.data)
├── ReleaseError             a release folder that must not serve (anabranch.release)
├── FolderInUse              another process re-shares in the same folder (models.retraining)
├── ReleasesChanged          somebody else announced a release during a run (models.retraining)
├── AnotherLog               the event store has the events of other topics (models.retraining)
├── LogTruncated             a topic ends before the offset up to which it was read (models.retraining)
├── OutOfResources           the disk is full, or memory is missing (models.retraining)
├── BrokerUnavailable        no broker answers at `bootstrap_servers`
├── BrokerRefused            authentication or TLS failed
├── BrokerFailed             a broker answered with an error that a retry does not solve
├── TopicsDiffer             topics are missing or differ from their specification
├── EventsLost               a log no longer has what a process is about to read of it
├── Fenced                   another process uses this one's transactional id
└── BackgroundFailure        a background thread of this process failed
"""

from __future__ import annotations

from collections.abc import Sequence


class AnabranchError(Exception):
    """Base of all. Its message says what failed, why, and what to do."""

    exit_code = 1


class UsageError(AnabranchError):
    """A wrong option, file or setting."""

    exit_code = 2


class SettingsError(UsageError):
    """Wrong settings; `problems` has one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(["invalid settings:", *(f"  {problem}" for problem in problems)]))
        self.problems = tuple(problems)


class BrokerUnavailable(AnabranchError):
    """No broker answers at `bootstrap_servers`."""


class BrokerRefused(AnabranchError):
    """A broker refused this user, or TLS failed between it and this process."""


class BrokerFailed(AnabranchError):
    """A broker answered with an error that a retry does not solve."""


class TopicsDiffer(AnabranchError):
    """Topics are missing or differ from their specification; `differences` has one line for each."""

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__(
            "\n".join(["the topics differ from their specification:", *(f"  {line}" for line in differences)])
        )
        self.differences = tuple(differences)


class EventsLost(AnabranchError):
    """A log no longer has what a process is about to read of it: events to be ranked or replayed, or items."""


class Fenced(AnabranchError):
    """Another process uses this one's transactional id, so this one must stop."""


class BackgroundFailure(AnabranchError):
    """A background thread failed, and the process must not continue without it."""
