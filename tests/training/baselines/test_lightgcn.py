"""LightGCN's propagation, and its gradient, equal dense layers that autograd follows."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.baselines.lightgcn import LightGcn, UserItemGraph, propagate
from training.baselines.losses import bpr


def interactions(n: int, m: int, seed: int) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    return sp.csr_matrix((rng.random((n, m)) < 0.4).astype(np.float32))


def dense_layers(train: sp.csr_matrix, x: torch.Tensor, layers: int) -> torch.Tensor:
    """The paper's formula word by word."""
    n, m = train.shape
    adjacency = torch.zeros(n + m, n + m, dtype=x.dtype)
    adjacency[:n, n:] = torch.from_numpy(train.toarray()).to(x.dtype)
    adjacency[n:, :n] = adjacency[:n, n:].T.clone()
    degree = adjacency.sum(1).clamp(min=1)
    normalised = adjacency / (degree[:, None] * degree[None, :]).sqrt()
    states = [x]
    for _ in range(layers):
        states.append(normalised @ states[-1])
    return torch.stack(states).mean(0)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 9), m=st.integers(1, 9), layers=st.integers(0, 4), seed=st.integers(0, 1000))
def test_propagation_and_its_gradient_equal_dense_layers(n: int, m: int, layers: int, seed: int) -> None:
    train = interactions(n, m, seed)
    torch.manual_seed(seed)
    x = torch.randn(n + m, 3, requires_grad=True)
    upstream = torch.randn(n + m, 3)
    fast, slow = propagate(UserItemGraph(train, layers), x), dense_layers(train, x, layers)
    torch.testing.assert_close(fast, slow)
    (got,) = torch.autograd.grad(fast, x, upstream)
    (want,) = torch.autograd.grad(slow, x, upstream)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_gradient_of_a_loss_equals_that_of_the_dense_model(layers: int) -> None:
    train = interactions(7, 9, 3)
    model = LightGcn(train, dim=4, layers=layers, seed=1)
    rows = torch.tensor([[0, 3, 3, 6], [7, 9, 15, 9], [8, 8, 10, 11]])
    bpr(*model.training_table()[rows].unbind()).backward()
    ego = model.ego.detach().clone().requires_grad_()
    bpr(*dense_layers(train, ego, layers)[rows].unbind()).backward()
    assert model.ego.grad is not None
    torch.testing.assert_close(model.ego.grad, ego.grad)


def test_who_has_no_edge_keeps_a_share_of_his_own_vector() -> None:
    train = sp.csr_matrix(np.array([[1, 1, 0], [0, 0, 0]], np.float32))
    model = LightGcn(train, dim=4, layers=3, seed=0)
    for lonely in (1, 4):
        torch.testing.assert_close(model.table()[lonely], model.ego.detach()[lonely] / 4)
