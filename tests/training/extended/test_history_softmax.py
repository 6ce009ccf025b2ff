"""The loss and the scores of `history_softmax` against the formula written out."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from training.extended.history_softmax import Items, hidden_softmax, history_scores


def some_items(n: int = 9, d: int = 4) -> Items:
    generator = torch.Generator().manual_seed(0)
    return Items(
        vectors=torch.randn(n, d, generator=generator).requires_grad_(),
        prior=torch.randn(n, generator=generator).requires_grad_(),
        temperature=0.3,
        weight=torch.rand(n, generator=generator) + 0.1,
    )


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_scores_are_the_formula() -> None:
    items = some_items()
    histories = sp.csr_matrix(np.array([[1, 0, 1, 0, 0, 0, 1, 0, 0], [0] * 9], np.float32))
    z, prior, weight = (part.detach().numpy() for part in (items.vectors, items.prior, items.weight))
    shopper = unit(sum(weight[j] * unit(z[j]) for j in (0, 2, 6)))
    scores = history_scores(items, histories)(np.array([0, 1]))
    np.testing.assert_allclose(scores[0], unit(z) @ shopper / 0.3 + prior, rtol=1e-5)
    np.testing.assert_allclose(scores[1], prior, rtol=1e-6)  # an empty history leaves the prior


def test_the_loss_is_the_formula() -> None:
    items = some_items()
    rng = np.random.default_rng(1)
    matrix = (rng.random((6, 9)) < 0.5).astype(np.float32)
    loss = hidden_softmax(items, sp.csr_matrix(matrix), negatives=5, hidden_share=0.4, rng=np.random.default_rng(2))

    again = np.random.default_rng(2)
    user, item = sp.csr_matrix(matrix).nonzero()
    hidden = again.random(len(user)) < 0.4
    drawn = again.integers(0, 9, 5)
    z, prior, weight = (part.detach().numpy() for part in (items.vectors, items.prior, items.weight))
    terms = []
    for u, i in zip(user[hidden], item[hidden], strict=True):
        shown = item[~hidden & (user == u)]
        if not len(shown):
            continue
        shopper = unit(sum(weight[j] * unit(z[j]) for j in shown))
        logit = unit(z) @ shopper / 0.3 + prior
        total = math.exp(logit[i]) + 9 / 5 * np.exp(logit[drawn]).sum()
        terms.append(math.log(total) - logit[i])
    assert len(terms) > 3
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_histories_with_nothing_to_hide_teach_nothing() -> None:
    items = some_items()
    one_each = sp.csr_matrix(np.eye(3, 9, dtype=np.float32))
    loss = hidden_softmax(items, one_each, negatives=4, hidden_share=0.5, rng=np.random.default_rng(0))
    loss.backward()
    assert loss.item() == 0
    assert items.vectors.grad is not None
    assert not items.vectors.grad.any()
