"""Which faults a chaos run injects, and when: drawn with a random seed, so that a run can be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

FaultKind = Literal["kill ranker", "kill broker", "pause ranker"]

BROKER_KILL_SHARE = 0.3
"""Share of the kills that hit brokers."""
PAUSES_PER_KILL = 0.25
MAX_PAUSE_BEYOND_TIMEOUT_S = 18.0
"""Longest pause beyond the session timeout: long enough for the broker to abort the ranker's open transaction."""
QUIET_SHARE = 0.05
"""Share of the run at its start and at its end without faults."""


@dataclass(frozen=True)
class Fault:
    """One fault, `start_s` seconds after the stream began, for the ranker or broker with index `victim`."""

    start_s: float
    kind: FaultKind
    victim: int
    duration_s: float
    """How long the victim is dead or suspended."""


def draw_faults(
    random_seed: int, run_s: float, kills: int, rankers: int, brokers: int, session_timeout_s: float
) -> list[Fault]:
    """Faults in order of time: `kills` times kill -9, and one pause longer than the session timeout per four kills."""
    random = np.random.default_rng(random_seed)
    pauses = round(kills * PAUSES_PER_KILL)
    broker_kills = round(kills * BROKER_KILL_SHARE)
    counts: dict[FaultKind, int] = {
        "kill broker": broker_kills,
        "kill ranker": kills - broker_kills,
        "pause ranker": pauses,
    }
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    faults = [
        Fault(
            start_s=float(random.uniform(QUIET_SHARE, 1 - QUIET_SHARE) * run_s),
            kind=kind,
            victim=int(random.integers(brokers if kind == "kill broker" else rankers)),
            duration_s=_draw_duration_s(kind, random, session_timeout_s),
        )
        for kind in kinds
    ]
    return sorted(faults, key=lambda fault: fault.start_s)


def _draw_duration_s(kind: FaultKind, random: np.random.Generator, session_timeout_s: float) -> float:
    if kind == "pause ranker":
        return session_timeout_s + float(random.uniform(1, MAX_PAUSE_BEYOND_TIMEOUT_S))
    return float(random.uniform(0.1, 3))
