"""What goes wrong and when: drawn from a seed, so that a run can be had again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["kill ranker", "kill broker", "pause ranker"]

BROKER_SHARE = 0.3
"""Of the kills."""
PAUSES_A_KILL = 0.25
LONGEST_BEYOND_S = 18.0
"""How much longer than the session's time-out a pause may be: long enough for the broker to end a transaction."""
QUIET = 0.05
"""Share of the run at its beginning and at its end in which nothing goes wrong."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, `at_s` seconds after the stream began, to the victim of that number."""

    at_s: float
    kind: Kind
    victim: int
    for_s: float
    """How long the victim is dead or stands still."""


def draw(seed: int, seconds: float, kills: int, rankers: int, brokers: int, session_timeout_s: float) -> list[Fault]:
    """Faults in order of time: so many kills -9, and a pause for every fourth, longer than the session's time-out."""
    random = np.random.default_rng(seed)
    pauses = round(kills * PAUSES_A_KILL)
    broker_kills = round(kills * BROKER_SHARE)
    counts: dict[Kind, int] = {"kill broker": broker_kills, "kill ranker": kills - broker_kills, "pause ranker": pauses}
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    faults = [
        Fault(
            at_s=float(random.uniform(QUIET, 1 - QUIET) * seconds),
            kind=kind,
            victim=int(random.integers(brokers if kind == "kill broker" else rankers)),
            for_s=_for_s(kind, random, session_timeout_s),
        )
        for kind in kinds
    ]
    return sorted(faults, key=lambda fault: fault.at_s)


def _for_s(kind: Kind, random: np.random.Generator, session_timeout_s: float) -> float:
    if kind == "pause ranker":
        return session_timeout_s + float(random.uniform(1, LONGEST_BEYOND_S))
    return float(random.uniform(0.1, 3))
