"""The published sequential recommenders: they learn, keep sequences apart, and are ranked by our rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anabranch.errors import UsageError
from anabranch.ranking.pipeline.best_candidates import BestCandidates, top_k_per_query
from anabranch.ranking.policy import Policy
from models.data.datasets import leave_one_out
from models.data.event_log import NotEnoughData
from models.metrics.ranking import ndcg_at, recall_at
from tests.benchmarks.peers.sequential.__main__ import main
from tests.benchmarks.peers.sequential.examples import Examples, Packing, packed, windows
from tests.benchmarks.peers.sequential.figures import PeerRun, read
from tests.benchmarks.peers.sequential.lrurec import ComplexRecurrence
from tests.benchmarks.peers.sequential.network import PeerNetwork, PeerTraining
from tests.benchmarks.peers.sequential.peers import SEQUENTIAL_PEERS, SequentialPeer
from tests.benchmarks.peers.sequential.ranks import NetworkDiverged, rank_targets, target_ranks
from tests.benchmarks.peers.sequential.rows import LeaveOneOutRows, Targets, UserSequences
from tests.benchmarks.peers.sequential.run import measure
from tests.benchmarks.peers.sequential.training import PeerTrainer
from tests.support.data_folders import write_folder

ITEMS = 30


def silent(step: int, figure: float) -> None:
    """Report nothing."""


class ByLastItem(PeerNetwork):
    """Scores of the next item given the last one, learned as they are."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(scores, freeze=False)

    def forward(self, item: Tensor, packing: Packing) -> Tensor:
        return torch.as_tensor(self.table(item))

    def loss(self, user: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(user, target)

    def scores(self, user: Tensor) -> Tensor:
        return user


def sequences(*items: list[int]) -> UserSequences:
    start = np.cumsum([0, *map(len, items)])
    return UserSequences(np.array([item for user in items for item in user], np.int64), start.astype(np.int64))


def cycle_folder(folder: Path, users: int = 120) -> Path:
    """Each item is followed by the one with the next number, and the last by the first."""
    walks = [[(user * 7 + place) % ITEMS for place in range(4 + user % 5)] for user in range(users)]
    rows = [[(user, place, item) for place, item in enumerate(walk)] for user, walk in enumerate(walks)]
    cuts = {"train": slice(0, -2), "val": slice(-2, -1), "test": slice(-1, None)}
    return write_folder(folder, {name: [row for user in rows for row in user[cut]] for name, cut in cuts.items()})


@pytest.fixture
def cycle(tmp_path: Path) -> LeaveOneOutRows:
    return LeaveOneOutRows.read(cycle_folder(tmp_path / "cycle"))


@pytest.fixture(params=SEQUENTIAL_PEERS)
def peer(request: pytest.FixtureRequest) -> SequentialPeer:
    torch.manual_seed(0)
    return SEQUENTIAL_PEERS[request.param]


# --- the networks -----------------------------------------------------------------------------------------------------


def test_a_network_learns_what_always_follows(peer: SequentialPeer, cycle: LeaveOneOutRows) -> None:
    training = replace(peer.training, max_epochs=300, learning_rate=0.01, steps_per_validation=10, patience=3)
    network = peer.network(cycle.items)
    trainer = PeerTrainer(network, training, cycle.train, cycle.items, np.random.default_rng(0))
    assert recall_at(rank_targets(network, cycle.test, training.window), 1) < 0.5, "nothing is learned yet"
    trainer.until_no_better(cycle.validation, silent)
    assert recall_at(rank_targets(network, cycle.test, training.window), 1) == 1


def test_a_sequence_is_not_changed_by_its_neighbours_nor_by_its_future(peer: SequentialPeer) -> None:
    network = peer.network(ITEMS).eval()
    users = sequences([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], [8], [9, 7, 9], list(range(25)))
    together = network(*packed(users, users.bounds))
    for first, end in users.bounds.tolist():
        alone = network(*packed(users, np.array([[first, end]])))
        torch.testing.assert_close(together[first:end], alone)
        earlier = network(*packed(users, np.array([[first, end - (end - first) // 2]])))
        torch.testing.assert_close(together[first : first + len(earlier)], earlier)
    assert not torch.allclose(together[1], together[3], atol=1e-3), "the same item after others"


def test_the_recurrence_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    layer, x = ComplexRecurrence(4, 6), torch.randn(7, 4)
    decay, angle, gain = layer.log_rates.exp()
    eigenvalue, state, expected = torch.exp(torch.complex(-decay, angle)), torch.zeros(6), []
    for value in x:
        state = eigenvalue * state + gain * torch.view_as_complex(layer.read(value).unflatten(0, (-1, 2)))
        expected.append(layer.write(torch.view_as_real(state).flatten()))
    torch.testing.assert_close(layer(x, Packing.of(np.array([7]))), torch.stack(expected))
    assert eigenvalue.abs().min().item() >= 0.8 and eigenvalue.abs().max().item() <= 0.99
    torch.testing.assert_close(gain**2, 1 - eigenvalue.abs() ** 2)


def test_padding_apart_is_the_same_as_padding_together() -> None:
    packing, x = Packing.of(np.array([3, 40, 1, 12, 6])), torch.randn(62, 2)

    def sums(padded: Tensor) -> Tensor:
        return padded.cumsum(1)

    torch.testing.assert_close(packing.apply_padded(sums, x), packing.unpad(sums(packing.pad(x))))


# --- what is learned from ---------------------------------------------------------------------------------------------


def test_every_position_but_the_last_has_the_item_that_follows() -> None:
    users = sequences([1, 2, 3], [4, 5])
    examples = Examples.of(users, users.bounds)
    assert examples.item.tolist() == [1, 2, 4] and examples.target.tolist() == [2, 3, 5]
    assert examples.packing.place.tolist() == [0, 1, 0] and examples.packing.last.tolist() == [1, 2]
    with_first = examples.with_first_items(np.array([1, 4]), start=9)
    assert with_first.item.tolist() == [1, 2, 4, 9, 9] and with_first.target.tolist() == [2, 3, 5, 1, 4]
    assert with_first.packing.place.tolist() == [0, 1, 0, 0, 0]


def test_a_long_sequence_is_cut_into_windows_or_to_its_newest_events() -> None:
    users = sequences(list(range(10)), [1, 2])
    assert windows(users, 4, all_events=False).tolist() == [[5, 10], [10, 12]]
    assert windows(users, 4, all_events=True).tolist() == [[10, 12], [6, 10], [2, 6]]


def test_the_rows_are_those_of_our_benchmark(tmp_path: Path) -> None:
    parts = {
        "train": [(1, 0, 10), (1, 1, 11), (2, 0, 12)],
        "val": [(1, 2, 12), (3, 0, 10)],
        "test": [(1, 3, 13), (2, 1, 10), (3, 1, 14), (4, 0, 10)],
    }
    rows = LeaveOneOutRows.read(write_folder(tmp_path / "few", parts))
    log = leave_one_out([tmp_path / "few"]).log
    ids = [int(item) for item in log.item_ids]
    assert rows.items == len(ids) == 5
    assert [ids[item] for item in rows.train.item] == [10, 11, 12]
    assert [ids[item] for item in rows.train_and_validation.item] == [10, 11, 12, 12, 10]
    known_users = [(rows.user_ids[user], ids[item]) for user, item in zip(rows.test.user, rows.test.item, strict=True)]
    assert known_users == [("1", 13), ("2", 10), ("3", 14)], "user 4 has no earlier event"
    assert [rows.user_ids[user] for user in rows.validation.user] == ["1"]


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_ranks_are_those_that_our_slates_have_for_the_same_scores() -> None:
    random = np.random.default_rng(0)
    users, k = 200, ITEMS
    scores = random.integers(0, 6, (ITEMS, ITEMS)).astype(np.float32)  # many ties
    known = sequences(*(random.integers(0, ITEMS, 1 + user % 70).tolist() for user in range(users)))
    targets = Targets(known, np.arange(users), random.integers(0, ITEMS, users))
    best, policy = BestCandidates.empty(users, k), Policy(exclude_seen=True)
    places = []
    for user, (first, end) in enumerate(known.bounds.tolist()):
        barred = set(known.item[first:end].tolist()) if policy.excludes(in_session=False) else set()
        places += [(user, item, scores[known.item[end - 1], item]) for item in range(ITEMS) if item not in barred]
    query, item, score = (np.array(column) for column in zip(*places, strict=True))
    eligible = np.ones(len(query), np.bool_)
    top_k_per_query(score.astype(np.float32), eligible, query.astype(np.int64), item.astype(np.int32), best)
    hit = best.items == targets.item[:, None]
    ours = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
    ranks = rank_targets(ByLastItem(torch.from_numpy(scores)), targets, window=5)
    assert ranks.tolist() == ours.tolist()
    assert (ours == 0).any() and len(set(ours.tolist())) > 10


def test_a_network_that_diverged_has_no_ranks() -> None:
    none = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    for value in (torch.nan, torch.inf):
        with pytest.raises(NetworkDiverged, match="diverged"):
            target_ranks(torch.tensor([[0.0, value]]), np.array([0]), none)


# --- training ---------------------------------------------------------------------------------------------------------


def trainer(network: PeerNetwork, rows: LeaveOneOutRows, **settings: object) -> PeerTrainer:
    training = replace(PeerTraining(metric="ndcg", max_epochs=50, sequences_per_step=60), **settings)  # type: ignore[arg-type]
    return PeerTrainer(network, training, rows.train, rows.items, np.random.default_rng(0))


def test_training_ends_after_the_patience_with_the_best_weights(cycle: LeaveOneOutRows) -> None:
    network = ByLastItem(torch.eye(ITEMS).roll(2, dims=1) / 2)  # prefers the item after the next, a little
    targets = Targets(cycle.validation.known, cycle.validation.user, (cycle.validation.item + 1) % ITEMS)
    figures = list[tuple[int, float]]()
    training = trainer(network, cycle, learning_rate=0.1, patience=3)
    best = training.until_no_better(targets, lambda step, figure: figures.append((step, figure)))
    assert training.steps_per_epoch == best == 2
    assert [step for step, _ in figures] == [2, 4, 6, 8]
    assert ndcg_at(rank_targets(network, targets, 50), 10) == figures[0][1] > figures[-1][1]


def test_training_ends_with_the_most_epochs_and_validates_then(cycle: LeaveOneOutRows) -> None:
    steps = list[int]()
    training = trainer(ByLastItem(torch.zeros(ITEMS, ITEMS)), cycle, max_epochs=4, steps_per_validation=5)
    assert training.until_no_better(cycle.validation, lambda step, figure: steps.append(step)) in (5, 8)
    assert steps == [5, 8]


def test_users_with_one_event_teach_nothing_but_their_first_item(cycle: LeaveOneOutRows) -> None:
    single = replace(cycle, train=sequences([1], [2]))
    with pytest.raises(NotEnoughData, match="2 events"):
        trainer(ByLastItem(torch.zeros(ITEMS, ITEMS)), single)
    network = ByLastItem(torch.zeros(ITEMS + 1, ITEMS))
    trainer(network, single, first_items=True, learning_rate=1.0).for_steps(3)
    assert set(network.table.weight[ITEMS].topk(2).indices.tolist()) == {1, 2}
    assert not network.table.weight[:ITEMS].any()


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(SEQUENTIAL_PEERS["sasrec"], training=PeerTraining(metric="ndcg", max_epochs=3))
    monkeypatch.setitem(SEQUENTIAL_PEERS, "sasrec", short)


@pytest.mark.usefixtures("short_training")
def test_a_run_writes_the_ranks_of_each_user_and_their_means(cycle: LeaveOneOutRows, tmp_path: Path) -> None:
    run = PeerRun("sasrec", cycle.name, "train", 0)
    result = measure(run, cycle, tmp_path, silent)
    assert read(tmp_path, run) == result and result.events == 120
    with np.load(tmp_path / "peer-sasrec-cycle-train-0.npz") as file:
        assert file["user"].tolist() == list(range(120))
        assert result.recall == {"10": recall_at(file["rank"], 10), "20": recall_at(file["rank"], 20)}
        assert result.ndcg["10"] == ndcg_at(file["rank"], 10)
    again = measure(replace(run, random_seed=1), cycle, tmp_path, silent)
    assert again.ndcg != result.ndcg
    assert measure(run, cycle, tmp_path, silent).mrr == result.mrr, "the random seed decides"


@pytest.mark.usefixtures("short_training")
def test_with_validation_rows_training_takes_the_steps_that_were_best_without(
    cycle: LeaveOneOutRows, tmp_path: Path
) -> None:
    run = PeerRun("sasrec", cycle.name, "train+validation", 0)
    with pytest.raises(UsageError, match="--rows train first"):
        measure(run, cycle, tmp_path, silent)
    train_only = measure(replace(run, rows="train"), cycle, tmp_path, silent)
    both = measure(run, cycle, tmp_path, silent)
    assert both.steps == train_only.steps > 0
    assert both.ndcg != train_only.ndcg


def test_a_recommender_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--model nosuch: .*lrurec, sasrec, hstu"):
        main([tmp_path], model=["nosuch"], out=tmp_path)
    with pytest.raises(UsageError, match=r"--rows test: .*train"):
        main([tmp_path], rows=["test"], out=tmp_path)
