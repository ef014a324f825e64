"""What a running ranker says of itself, read from its metrics as Prometheus would."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

ASK_EVERY_S = 0.25


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RankerStatus:
    """Asks a ranker's metrics, at most every `ASK_EVERY_S` seconds."""

    port: int
    _release: str | None = field(default=None, repr=False)
    _asked: float = field(default=0.0, repr=False)

    def release(self) -> str | None:
        """The release it ranks with; None before it ranks."""
        if time.monotonic() - self._asked > ASK_EVERY_S:
            self._release = self._ask()
            self._asked = time.monotonic()
        return self._release

    def _ask(self) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except urllib.error.URLError:
            return None  # not listening yet
        for family in text_string_to_metric_families(text):
            if family.name == "anabranch_live_release_info":
                return next((sample.labels.get("release") for sample in family.samples), None)
        return None
