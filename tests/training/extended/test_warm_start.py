"""What one shop teaches another: content that means the same in both is worth something before any epoch."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from service.errors import DataError
from training.extended.history_softmax import history_scores
from training.extended.warm_start import (
    ContentTower,
    Shop,
    WarmStartSettings,
    fit_tower,
    new_tower,
    transfer,
)
from training.ranking_metrics import rank_all
from training.sparse import Pattern

TASTES, EACH, USERS, NOISE = 6, 12, 240, 26
SETTINGS = WarmStartSettings(dim=16, epochs=16, batch_size=60, negatives=40, learning_rate=0.02)


def shop(seed: int, *, cold: bool = False) -> Shop:
    """A taste is six numbers of the content; the other 26 are loud noise that a shop has to learn to look past."""
    rng = np.random.default_rng(seed)
    n = TASTES * EACH
    taste = np.arange(n) // EACH
    content = np.concatenate([np.eye(TASTES)[taste], 1.5 * rng.normal(size=(n, NOISE))], axis=1).astype(np.float32)
    matrix = np.zeros((USERS, n), np.float32)
    for user in range(USERS):
        matrix[user, rng.permutation(EACH)[:5] + EACH * (user % TASTES)] = 1
    if cold:
        matrix[:, ::EACH] = 0
    neighbours = sp.csr_matrix(np.kron(np.eye(TASTES), np.ones((EACH, EACH)) / EACH).astype(np.float32))
    return Shop(sp.csr_matrix(matrix), torch.from_numpy(content), (Pattern(0.1 * neighbours),))


def right(tower: ContentTower, of: Shop) -> float:
    """Share of the best two that are of the shopper's taste."""
    users = np.arange(USERS)
    top = rank_all(history_scores(tower.fitted(of), of.train), users, of.train, k=2).rows
    return float((top // EACH == (users % TASTES)[:, None]).mean())


def fitted(of: Shop, settings: WarmStartSettings = SETTINGS) -> ContentTower:
    tower = new_tower(of, settings)
    list(fit_tower(tower, of, settings))
    return tower


def test_a_shop_without_one_epoch_profits_from_what_another_learned() -> None:
    source, target = fitted(shop(0)), shop(1)
    scratch, warm = (new_tower(target, SETTINGS) for _ in range(2))
    transfer(source, warm)
    assert right(scratch, target) < 0.3
    assert right(warm, target) > 0.9
    assert right(fitted(target), target) > 0.9


def test_identity_stays_behind_and_all_else_is_copied() -> None:
    source, target = fitted(shop(0)), new_tower(shop(1), SETTINGS)
    before = target.identity.detach().clone()
    names = transfer(source, target)
    assert sorted(names) == ["content.weight", "degree_exponent", "gain", "log_temperature", "popularity_gain"]
    torch.testing.assert_close(target.identity.detach(), before, rtol=0, atol=0)
    torch.testing.assert_close(target.content.weight, source.content.weight, rtol=0, atol=0)
    transfer(source, target, leave=("content.weight", "identity"))


def test_shops_without_a_common_content_space_are_told_so() -> None:
    target = shop(1)
    other = Shop(target.train, target.content[:, :4], target.relations)
    with pytest.raises(DataError, match=r"content.weight: \(16, 32\) does not fit \(16, 4\)"):
        transfer(new_tower(target, SETTINGS), new_tower(other, SETTINGS))
    with pytest.raises(DataError, match=r"gain: \(1,\) does not fit \(0,\)"):
        transfer(new_tower(target, SETTINGS), new_tower(Shop(target.train, target.content, ()), SETTINGS))


def test_parts_of_different_catalogs_are_refused() -> None:
    whole = shop(0)
    with pytest.raises(DataError, match="content: 71 items beside 72"):
        Shop(whole.train, whole.content[1:], whole.relations)


def test_items_that_nobody_bought_stand_where_their_content_says() -> None:
    of = shop(2, cold=True)
    tower = fitted(of)
    cold = np.arange(0, TASTES * EACH, EACH)
    scores = history_scores(tower.fitted(of), of.train)(np.arange(USERS))[:, cold]
    assert (scores.argmax(1) == np.arange(USERS) % TASTES).mean() > 0.9


def test_the_same_seed_fits_the_same_tower() -> None:
    one, two = (fitted(shop(0)) for _ in range(2))
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=0, atol=0)
