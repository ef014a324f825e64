"""One run: train a recommender on rows, and rank the test."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from anabranch.errors import UsageError
from tests.benchmarks.peers.sequential.figures import PeerFigures, PeerRun, figures, read, write
from tests.benchmarks.peers.sequential.network import PeerNetwork
from tests.benchmarks.peers.sequential.peers import SEQUENTIAL_PEERS
from tests.benchmarks.peers.sequential.ranks import rank_targets
from tests.benchmarks.peers.sequential.rows import LeaveOneOutRows
from tests.benchmarks.peers.sequential.training import PeerTrainer, Report


def measure(run: PeerRun, rows: LeaveOneOutRows, folder: Path, report: Report) -> PeerFigures:
    """Train, rank the test and write the figures.

    On training rows alone, training stops by the validation targets. With the validation rows there is nothing to stop
    by: it takes as many steps as were best without them. Raises `UsageError` if that is not known yet.
    """
    steps = None if run.rows == "train" else _best_steps(run, folder)
    started = time.perf_counter()
    network, steps = train(run, rows, steps, report)
    seconds = time.perf_counter() - started
    ranks = rank_targets(network, rows.test, SEQUENTIAL_PEERS[run.model].training.window)
    result = figures(run, ranks, steps, round(seconds, 1))
    write(folder, run, rows, ranks, result)
    return result


def train(run: PeerRun, rows: LeaveOneOutRows, steps: int | None, report: Report) -> tuple[PeerNetwork, int]:
    """A trained network and its steps; None: until validation gets no better."""
    torch.manual_seed(run.random_seed)
    peer = SEQUENTIAL_PEERS[run.model]
    network = peer.network(rows.items)
    sequences = rows.train if run.rows == "train" else rows.train_and_validation
    trainer = PeerTrainer(network, peer.training, sequences, rows.items, np.random.default_rng(run.random_seed))
    if steps is None:
        return network, trainer.until_no_better(rows.validation, report)
    trainer.for_steps(steps)
    return network, steps


def _best_steps(run: PeerRun, folder: Path) -> int:
    without = replace(run, rows="train")
    known = read(folder, without)
    if known is None:
        raise UsageError(
            f"{without.file(folder, '.json')} is missing: run the same with --rows train first. Its best number of "
            "steps is used"
        )
    return known.steps
