"""Results of other models that `make sequential-peers` trained on the rows of our own measurements."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from anabranch.harness.results.cells import Figures
from anabranch.harness.results.paired_ranks import SeedRanks, read_peer_ranks


@dataclass(frozen=True)
class PeerResults:
    """The files `peer-MODEL-DATA-ROWS-SEED.json`, with figures, and `.npz`, with the ranks."""

    folder: Path
    model: str
    data: str
    rows: str
    """`train` or `train+validation`"""

    def figures(self) -> list[Figures]:
        """One entry per random seed."""
        return [json.loads(path.read_text()) for path in self._paths("json")]

    def ranks(self) -> SeedRanks | None:
        """The ranks of the same random seeds; None if there are none."""
        return read_peer_ranks(self._paths("npz"))

    def _paths(self, suffix: str) -> list[Path]:
        return sorted(self.folder.glob(f"peer-{self.model}-{self.data}-{self.rows}-[0-9]*.{suffix}"))
