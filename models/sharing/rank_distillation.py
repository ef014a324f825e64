"""Multi-teacher rank distillation: the encoder learns from the log, and from the lists its seeds would show.

Tang and Wang, Ranking Distillation: Learning Compact Ranking Models With High Performance for Recommender System,
KDD 2018 (a student learns the top of its teacher's list, places weighted by rank); Zhang, Chen and Wang,
Confidence-Aware Multi-Teacher Knowledge Distillation, ICASSP 2022 (a teacher counts, moment by moment, by how well
it agrees with what came); Kang et al., Distillation from Heterogeneous Models for Top-K Recommendation, WWW 2023
(teachers that differ in kind teach a compact student through their rankings alone).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import Encoder
from models.sampled_softmax import Negatives, draw_targets, sampled_softmax
from models.seeds.seed import Lesson
from models.sequences import Positions, Sequences, Windows
from models.sharing.strategy import Course, Done

TEACH_AT_ONCE = 512
TEACHING_SHARE = 0.2
"""Of the whole time, for progress."""


@dataclass(frozen=True)
class RankDistillation:
    """How the encoder is trained. Epochs are the first release's; a child of a parent takes `tuning_epochs`."""

    epochs: int = 5
    tuning_epochs: int = 2
    replay: float = 0.25
    """Share of the parent's windows that a child sees again, so that it does not forget."""
    window: int = 128
    windows_a_step: int = 32
    targets_a_step: int = 2048
    negatives: int = 768
    ahead: float = 8.0
    """Mean number of events from a moment to the target drawn for it."""
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    moments: int = 12_000
    """How many moments the seeds teach about."""
    list_length: int = 20
    recent: int = 64
    """Items the seeds are shown of a moment."""
    fading: float = 8.0
    """Places after which a list's item counts 1/e."""
    distillation: float = 0.3
    """Weight of the lists against the log."""

    def describe(self) -> dict[str, Any]:
        """Name and settings, for the manifest."""
        return {"name": "rank_distillation", **asdict(self)}

    def share(self, encoder: Encoder, course: Course, seed: int, done: Done) -> dict[str, float]:
        """Train the encoder in place; returns the last epoch's losses and every seed's mean weight."""
        torch.set_flush_denormal(True)  # products of many fades are tiny, and denormal floats cost tenfold
        torch.manual_seed(seed)
        random = np.random.default_rng(seed)
        lessons = self._teach(course, random, done)
        epochs = self.tuning_epochs if course.fresh_from else self.epochs
        training = _Training(self, encoder, course, lessons, random)
        losses = [training.epoch(epochs, lambda share: done(share * (1 - TEACHING_SHARE))) for _ in range(epochs)]
        weights = dict(zip((f"weight_{one.name}" for one in course.seeds), lessons.mean_weights(), strict=True))
        return {**losses[-1], **weights}

    def _teach(self, course: Course, random: np.random.Generator, done: Done) -> Lessons:
        """Ask every seed about moments drawn from the log, the fresh part of it first of all."""
        sequences = course.sequences
        fresh = np.flatnonzero(sequences.ts >= course.fresh_from)
        rows = np.sort(random.choice(fresh, min(self.moments, len(fresh)), replace=False))
        contexts, following = sequences.contexts(rows, self.recent), sequences.following(rows, self.list_length)
        items = np.full((len(rows), len(course.seeds), self.list_length), -1, np.int32)
        weight = np.zeros((len(rows), len(course.seeds)), np.float32)
        for at, seed in enumerate(course.seeds):
            for start in range(0, len(rows), TEACH_AT_ONCE):
                part = slice(start, start + TEACH_AT_ONCE)
                lesson = seed.teach(contexts.part(part.start, part.stop), self.list_length)
                items[part, at, : lesson.items.shape[1]] = lesson.items
                weight[part, at] = lesson.confidence * agreement(lesson, following[part])
                done(TEACHING_SHARE * len(lesson.items) / len(rows) / len(course.seeds))
        return Lessons.of(sequences, rows, items, weight)


@dataclass(frozen=True)
class Lessons:
    """The lists of K seeds at n moments, and how much each counts: on average, a moment's weights sum to 1."""

    at_row: Positions  # [N] row of the sequences → moment, -1: none
    items: NDArray[np.int32]  # [n, K, k], -1 padded
    weight: NDArray[np.float32]  # [n, K]

    @classmethod
    def of(
        cls, sequences: Sequences, rows: Positions, items: NDArray[np.int32], weight: NDArray[np.float32]
    ) -> Lessons:
        """Lessons at `rows` [n], weights [n, K] brought to scale."""
        at_row = np.full(len(sequences), -1, np.int64)
        at_row[rows] = np.arange(len(rows))
        scale = weight.sum() / max(len(rows), 1)
        return cls(at_row, items, weight / scale if scale > 0 else weight)

    def mean_weights(self) -> list[float]:
        """Each seed's weight, averaged over the moments."""
        return [float(one) for one in self.weight.mean(axis=0)] if len(self.weight) else [0.0] * self.weight.shape[1]


def agreement(lesson: Lesson, following: NDArray[np.int32]) -> NDArray[np.float32]:
    """How well each list [B, k] foresaw the user's next items [B, m]: its discounted gain, 0 to 1.

    Half of it is the seed's mean: a good teacher that missed once still counts.
    """
    seen = (lesson.items[:, :, None] == following[:, None, :]) & (lesson.items >= 0)[:, :, None]
    discount = 1 / np.log2(np.arange(lesson.items.shape[1]) + 2)
    gain = np.asarray((seen.any(axis=2) * discount).sum(axis=1) / discount.sum(), np.float32)
    weight: NDArray[np.float32] = 0.5 * gain + 0.5 * gain.mean()
    return weight


class _Training:
    """One run of the optimiser over a course."""

    def __init__(
        self,
        config: RankDistillation,
        encoder: Encoder,
        course: Course,
        lessons: Lessons,
        random: np.random.Generator,
    ) -> None:
        self.config, self.encoder, self.lessons, self.random = config, encoder, lessons, random
        self.sequences, self.fresh_from = course.sequences, course.fresh_from
        self.numbers = torch.from_numpy(course.numbers)
        with torch.no_grad():
            self.white = encoder.item.white(course.text_vectors)  # [C, P]
        self.negatives = Negatives.of(course.sequences.item, len(course.numbers))
        rate = config.learning_rate / (4 if course.fresh_from else 1)
        self.optimiser = torch.optim.AdamW(encoder.parameters(), rate, weight_decay=config.weight_decay)
        self.steps = 0

    def epoch(self, epochs: int, done: Done) -> dict[str, float]:
        """One pass over the windows; mean losses by name."""
        bounds = self._windows()
        totals: dict[str, float] = {"loss_log": 0.0, "loss_lists": 0.0}
        parts = range(0, len(bounds), self.config.windows_a_step)
        for start in parts:
            self._set_rate(epochs * len(parts))
            losses = self._losses(bounds[start : start + self.config.windows_a_step])
            self._descend(losses["loss_log"] + self.config.distillation * losses["loss_lists"])
            for name, loss in losses.items():
                totals[name] += float(loss.detach()) / len(parts)
            done(1 / len(parts) / epochs)
        return totals

    def _windows(self) -> Positions:
        bounds = self.sequences.windows(self.config.window, self.random)
        old = self.sequences.ts[bounds[:, 1] - 1] < self.fresh_from
        return bounds[~old | (self.random.random(len(bounds)) < self.config.replay)]

    def _losses(self, bounds: Positions) -> dict[str, Tensor]:
        windows = self.sequences.gather(bounds)
        users = self._users(windows)  # [B, L, d]
        drawn = self.negatives.draw(self.config.negatives, self.random)
        chance = self.negatives.log_probability[drawn]
        negatives = self._items(drawn)  # [n, d]
        where, target = draw_targets(
            self.sequences, windows, self.config.ahead, self.config.targets_a_step, self.random
        )
        positives = self._items(self.sequences.item[target])
        lesson = np.where(windows.present, self.lessons.at_row[windows.row], -1)
        taught = lesson >= 0
        return {
            "loss_log": sampled_softmax(users[torch.from_numpy(where)], positives, negatives, chance),
            "loss_lists": self._list_loss(users[torch.from_numpy(taught)], lesson[taught], negatives, chance),
        }

    def _list_loss(self, users: Tensor, lesson: Positions, negatives: Tensor, chance: Tensor) -> Tensor:
        """Weighted cross-entropy of users [b, d] choosing each listed item against the shared negatives [n, d]."""
        if not len(lesson):
            return torch.zeros(())
        lists = self.lessons.items[lesson]  # [b, K, k]
        by_rank = torch.exp(-torch.arange(lists.shape[2]) / self.config.fading)
        places = by_rank * torch.from_numpy(lists >= 0)
        places = places / by_rank.sum() * torch.from_numpy(self.lessons.weight[lesson])[:, :, None]
        listed = torch.einsum("bd,bkpd->bkp", users, self._items(np.maximum(lists, 0)))  # [b, K, k]
        others = torch.logsumexp(users @ negatives.T - chance - math.log(len(negatives)), dim=1)  # [b]
        surprise = torch.logaddexp(listed, others[:, None, None]) - listed
        return (surprise * places).sum() / len(lesson)

    def _users(self, windows: Windows) -> Tensor:
        rows = windows.row
        return torch.as_tensor(
            self.encoder.step(
                self._items(self.sequences.item[rows]),
                torch.from_numpy(self.sequences.type[rows].astype(np.int64)),
                torch.from_numpy(self.sequences.seconds_since[rows]),
            )
        )

    def _items(self, rows: NDArray[np.integer]) -> Tensor:
        at = torch.from_numpy(rows.astype(np.int64))
        return self.encoder.item.embed(self.white[at], self.numbers[at])

    def _set_rate(self, steps: int) -> None:
        """One cycle: up for a seventh of the steps, then down along a cosine."""
        share = self.steps / steps
        factor = share * 7 if share < 1 / 7 else 0.5 + 0.5 * math.cos(math.pi * (share - 1 / 7) / (6 / 7))
        for group in self.optimiser.param_groups:
            group.setdefault("initial", group["lr"])
            group["lr"] = group["initial"] * max(factor, 0.01)
        self.steps += 1

    def _descend(self, loss: Tensor) -> None:
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimiser.step()
