"""Each loss equals its formula written out, and its estimates are exact in their exact limit."""

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from training.baselines.losses import bpr, log_partition, sampled_softmax, top_k_threshold, top_k_weight


def unit(rows: int, dim: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=random, dtype=torch.float64), dim=1)


def test_bpr_is_the_mean_of_minus_log_sigma_of_the_margin() -> None:
    users, near, far = (unit(5, 3, seed) for seed in (1, 2, 3))
    want = [-np.log(1 / (1 + np.exp(-float(u @ p - u @ n)))) for u, p, n in zip(users, near, far, strict=True)]
    assert np.isclose(float(bpr(users, near, far)), np.mean(want))


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 6), keys=st.integers(1, 6), seed=st.integers(0, 1000))
def test_log_partition_and_its_gradients_equal_logsumexp_by_autograd(rows: int, keys: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    out = rng.random((rows, keys)) < 0.3
    out[out.all(1), 0] = False
    own = torch.from_numpy(np.stack(out.nonzero()))
    q = (4 * unit(rows, 3, seed)).requires_grad_()
    k = unit(keys, 3, seed + 1).requires_grad_()
    bias = torch.from_numpy(rng.normal(size=keys))
    fast = log_partition(q, k, bias, own)
    slow = (q @ k.T + bias).masked_fill(torch.from_numpy(out), -torch.inf).logsumexp(1)
    torch.testing.assert_close(fast, slow)
    upstream = torch.from_numpy(rng.normal(size=rows))
    for got, want in zip(
        torch.autograd.grad(fast, (q, k), upstream), torch.autograd.grad(slow, (q, k), upstream), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_where_nothing_is_left_the_softmax_loss_is_zero() -> None:
    own = torch.tensor([[0, 1], [0, 0]])
    users, items = unit(2, 3, 0).requires_grad_(), unit(1, 3, 1)
    loss = sampled_softmax(users, items.repeat(2, 1), items, torch.zeros(1).double(), own, temperature=0.2)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert users.grad is not None
    assert bool((users.grad == 0).all())


def test_with_every_item_drawn_once_it_is_the_softmax_over_all_items() -> None:
    users, items, positive = unit(8, 4, 0), unit(12, 4, 1), torch.arange(8)
    own = torch.stack([torch.arange(8), positive])
    got = sampled_softmax(users, items[positive], items, torch.zeros(12).double(), own, temperature=0.15)
    torch.testing.assert_close(got, F.cross_entropy(users @ items.T / 0.15, positive))


def test_the_log_correction_makes_any_draw_an_unbiased_estimate_of_the_sum() -> None:
    """Σ_j exp(s_j) / (N q_j), a mean over many skewed draws, is Σ over all items."""
    rng = np.random.default_rng(0)
    items, query = unit(30, 4, 1), unit(1, 4, 2) / 0.2
    chance = rng.random(30) ** 3
    chance /= chance.sum()
    none = torch.zeros(2, 0, dtype=torch.int64)
    drawn = torch.from_numpy(rng.choice(30, 200_000, p=chance))
    bias = -torch.from_numpy(np.log(len(drawn) * chance))[drawn]
    estimate = float(log_partition(query, items[drawn], bias, none).exp())
    exact = float((query @ items.T).exp().sum())
    assert abs(estimate / exact - 1) < 0.03


def test_the_weight_halves_at_the_threshold_and_grows_with_the_score() -> None:
    users = unit(3, 4, 0)
    positives = torch.stack([users[0], users[1], -users[2]])
    weight = top_k_weight(users, positives, torch.tensor([1.0, 0.5, 0.5]).double(), 0.25)
    torch.testing.assert_close(weight, torch.sigmoid(torch.tensor([0.0, 2.0, -6.0]).double()))


def test_a_weighted_row_counts_by_its_weight() -> None:
    users, items, far = unit(2, 4, 0), unit(2, 4, 1), unit(5, 4, 2)
    none, zeros = torch.zeros(2, 0, dtype=torch.int64), torch.zeros(5).double()
    each = [
        float(sampled_softmax(users[i : i + 1], items[i : i + 1], far, zeros, none, temperature=0.2)) for i in (0, 1)
    ]
    both = sampled_softmax(
        users, items, far, zeros, none, temperature=0.2, weight=torch.tensor([0.25, 1.0], dtype=torch.float64)
    )
    assert np.isclose(float(both), (0.25 * each[0] + each[1]) / 2)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 7), m=st.integers(1, 12), k=st.integers(1, 5), seed=st.integers(0, 1000))
def test_the_threshold_is_the_kth_best_where_all_are_drawn_and_never_above_it(
    n: int, m: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    users, items = unit(n, 3, seed).float(), unit(m, 3, seed + 1).float()
    train = sp.csr_matrix((rng.random((n, m)) < 0.3).astype(np.float32))
    exact = (users @ items.T).sort(1, descending=True).values[:, min(k, m) - 1]
    everything = torch.from_numpy(rng.permutation(m))
    torch.testing.assert_close(top_k_threshold(users, items, train, everything, k), exact)
    few = everything[: max(min(k, m), m // 2)]
    assert bool((top_k_threshold(users, items, train, few, k) <= exact + 1e-6).all())
