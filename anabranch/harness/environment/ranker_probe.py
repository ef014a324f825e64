"""Reads the metrics of running processes over HTTP, as Prometheus does."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

HTTP_TIMEOUT_S = 10.0
LIVE_RELEASE_MAX_AGE_S = 0.25


def scrape(url: str) -> list[Sample]:
    """Every sample that a process serves at this address. Raises `OSError` while it does not listen."""
    with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as response:
        families = text_string_to_metric_families(response.read().decode())
    return [sample for family in families for sample in family.samples]


@dataclass
class ProcessProbe:
    """The metrics that a process serves on a port of 127.0.0.1."""

    port: int

    def samples(self, name: str) -> list[Sample]:
        """The samples of that name. Raises `OSError` while the process does not listen."""
        return [sample for sample in scrape(f"http://127.0.0.1:{self.port}/metrics") if sample.name == name]

    def total(self, name: str) -> float:
        """The sum of a metric's samples; 0 while the process does not listen."""
        try:
            return sum(sample.value for sample in self.samples(name))
        except OSError:
            return 0.0

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """A metric's samples by the value of one of its labels. Raises as `samples` does."""
        return {sample.labels[label]: sample.value for sample in self.samples(name)}

    def is_ready(self) -> bool:
        """Whether the process does its work, by its own account; False while it does not listen."""
        return self.total("anabranch_ready") > 0


@dataclass
class RankerProbe(ProcessProbe):
    """The metrics of a ranker."""

    _live_release: str | None = field(default=None, repr=False)
    _live_release_read_at: float = field(default=0.0, repr=False)

    def live_release(self) -> str | None:
        """The release that the ranker ranks with; None before it ranks. Read at most every 0.25 s."""
        if time.monotonic() - self._live_release_read_at > LIVE_RELEASE_MAX_AGE_S:
            self._live_release = self._read_live_release()
            self._live_release_read_at = time.monotonic()
        return self._live_release

    def ranks(self, partitions: int) -> bool:
        """Whether a single ranker ranks what comes on all `partitions` from now on: it has a release, and every
        partition is restored. Before that, a group without offsets has not decided where it starts."""
        if self.live_release() is None:
            return False
        remaining = self.by_label("anabranch_restore_remaining", "partition")
        return len(remaining) == partitions and not any(remaining.values())

    def _read_live_release(self) -> str | None:
        try:
            samples = self.samples("anabranch_live_release_info")
        except urllib.error.URLError:
            return None  # not listening yet
        return next((sample.labels.get("release") for sample in samples), None)
