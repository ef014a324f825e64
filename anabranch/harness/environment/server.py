"""A server as a child process: started, and waited for until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from anabranch.errors import BrokerUnavailable
from anabranch.harness.environment.processes import ChildProcess

POLL_INTERVAL_S = 0.1


@dataclass(kw_only=True)
class Server(ChildProcess):
    """A child process that clients reach at `address` (host:port)."""

    address: str

    def wait_until_ready(self, answers: Callable[[str], bool], timeout_s: float) -> None:
        """Wait until `answers(address)`. Raises `BrokerUnavailable`, with the end of the log, after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not answers(self.address):
            if self.exit_code is not None:
                raise BrokerUnavailable(f"the broker died with exit code {self.exit_code}{self.log_tail()}")
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"the broker does not answer after {timeout_s:.0f} s{self.log_tail()}")
            time.sleep(POLL_INTERVAL_S)
