"""Federated averaging: its limit is central SGD; averages, clipping and noise are what they say."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from training.extended.federated import (
    FederatedSettings,
    State,
    federated_fit,
    items_of,
    local_sgd,
    shards_of,
    start,
)
from training.extended.history_softmax import Items, hidden_softmax, history_scores
from training.ranking_metrics import rank_all

CLUSTERS, EACH = 4, 8
SETTINGS = FederatedSettings(dim=8, rounds=3, batch_size=16, negatives=20, learning_rate=5.0)


def planted(users: int = 80, seed: int = 0) -> sp.csr_matrix:
    """Every shopper has 2 to 6 of the 8 items of one cluster."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((users, CLUSTERS * EACH), np.float32)
    for user in range(users):
        items = rng.permutation(EACH)[: rng.integers(2, 7)] + EACH * (user % CLUSTERS)
        matrix[user, items] = 1
    return sp.csr_matrix(matrix)


def last(train: sp.csr_matrix, shards: list[np.ndarray], settings: FederatedSettings) -> State:
    return list(federated_fit(train, shards, settings))[-1][0]


def assert_same(one: State, two: State) -> None:
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_one_client_with_every_shopper_is_central_sgd_bit_for_bit() -> None:
    train = planted()
    vectors, bias = (torch.nn.Parameter(part) for part in start(train.shape[1], SETTINGS))
    optimizer = torch.optim.SGD([vectors, bias], lr=SETTINGS.learning_rate)
    for epoch in range(SETTINGS.rounds):
        rng = np.random.default_rng([SETTINGS.seed, epoch, 0])
        order = rng.permutation(train.shape[0])
        for first in range(0, len(order), SETTINGS.batch_size):
            optimizer.zero_grad()
            loss = hidden_softmax(
                Items(vectors, bias, SETTINGS.temperature),
                train[order[first : first + SETTINGS.batch_size]],
                negatives=SETTINGS.negatives,
                hidden_share=SETTINGS.hidden_share,
                rng=rng,
            )
            loss.backward()
            optimizer.step()
    assert_same(last(train, [np.arange(train.shape[0])], SETTINGS), (vectors.detach(), bias.detach()))


def test_a_round_is_the_average_of_what_clients_made_weighted_by_interactions() -> None:
    train = planted()
    shards = [np.arange(10), np.arange(10, 80)]
    settings = SETTINGS.model_copy(update={"rounds": 1, "local_epochs": 2})
    state, what = next(iter(federated_fit(train, shards, settings)))
    begun = start(train.shape[1], settings)
    alone = [local_sgd(begun, train[s], settings, np.random.default_rng([0, 0, c])) for c, s in enumerate(shards)]
    mass = np.array([train[s].nnz for s in shards]) / train.nnz
    for part in range(2):
        expected = sum(float(m) * one[0][part] for m, one in zip(mass, alone, strict=True))
        torch.testing.assert_close(state[part], expected)
    assert what.steps == sum(one[1] for one in alone) == 2 * (1 + 5)
    assert what.bytes_sent == 2 * 2 * 4 * (32 * 8 + 32)


def test_clients_find_planted_clusters_together() -> None:
    train = planted(160)
    settings = SETTINGS.model_copy(update={"rounds": 15, "learning_rate": 10.0})
    state = last(train, shards_of(train, 4, "random", np.random.default_rng(0)), settings)
    top = rank_all(history_scores(items_of(state, settings), train), np.arange(160), train, k=2).rows
    assert (top // EACH == (np.arange(160) % CLUSTERS)[:, None]).mean() > 0.95


def test_an_interrupted_fit_goes_on_to_the_same_model() -> None:
    train = planted()
    shards = shards_of(train, 5, "activity", np.random.default_rng(0))
    settings = SETTINGS.model_copy(update={"participation": 0.5, "clip": 0.5, "noise": 0.3})
    halfway = next(iter(federated_fit(train, shards, settings)))[0]
    resumed = list(federated_fit(train, shards, settings, state=halfway, done=1))[-1][0]
    assert_same(resumed, last(train, shards, settings))


def test_no_client_moves_the_model_by_more_than_the_clip() -> None:
    train = planted()
    settings = SETTINGS.model_copy(update={"rounds": 1, "clip": 0.01})
    (state, what), begun = next(iter(federated_fit(train, [np.arange(80)], settings))), start(32, settings)
    moved = torch.cat([(new - old).ravel() for new, old in zip(state, begun, strict=True)])
    assert what.clipped == 1
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_noise_has_the_deviation_that_the_accountant_counts_on() -> None:
    train = planted()
    quiet = SETTINGS.model_copy(update={"rounds": 1, "clip": 2.0, "dim": 200})
    loud = quiet.model_copy(update={"noise": 0.7})
    shards = shards_of(train, 4, "random", np.random.default_rng(0))
    (one, _), (two, _) = (next(iter(federated_fit(train, shards, s))) for s in (quiet, loud))
    noise = torch.cat([(a - b).ravel() for a, b in zip(one, two, strict=True)])
    assert noise.std().item() == pytest.approx(0.7 * 2.0 / 4, rel=0.03)


def test_the_server_rate_stretches_the_averaged_change() -> None:
    train = planted()
    shards = shards_of(train, 4, "random", np.random.default_rng(0))
    settings = SETTINGS.model_copy(update={"rounds": 1})
    begun, one = start(32, settings), last(train, shards, settings)
    two = last(train, shards, settings.model_copy(update={"server_rate": 2.0}))
    for a, b, c in zip(begun, one, two, strict=True):
        torch.testing.assert_close(c - a, 2 * (b - a))


@pytest.mark.parametrize("how", ["random", "activity"])
def test_every_shopper_is_in_one_shard(how: str) -> None:
    train = planted()
    shards = shards_of(train, 7, how, np.random.default_rng(0))  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.sort(np.concatenate(shards)), np.arange(80))
    activity = [np.diff(train.indptr)[shard] for shard in shards]
    spans = [int(a.max() - a.min()) for a in activity]
    assert (max(spans) <= 1) == (how == "activity")


def test_clients_are_sampled_without_replacement_or_each_by_itself() -> None:
    train = planted()
    shards = [np.array([u]) for u in range(80)]
    settings = SETTINGS.model_copy(update={"rounds": 4, "participation": 0.25})
    assert {what.clients for _, what in federated_fit(train, shards, settings)} == {20}
    clipped = settings.model_copy(update={"clip": 1.0})
    assert len({what.clients for _, what in federated_fit(train, shards, clipped)}) > 1
