"""Sparse products equal dense ones, forward and backward."""

import numpy as np
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.sparse import Pattern, aggregate, edge_dot


def pattern(n: int, m: int, seed: int) -> Pattern:
    return Pattern(sp.random(n, m, density=0.3, format="csr", dtype=np.float32, random_state=seed))


def dense(p: Pattern, values: torch.Tensor) -> torch.Tensor:
    rows = torch.repeat_interleave(torch.arange(p.shape[0]), p.crow.diff())
    return torch.zeros(p.shape).index_put((rows, p.col), values)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 1000))
def test_aggregate_and_its_gradients_equal_the_dense_product(n: int, m: int, seed: int) -> None:
    p = pattern(n, m, seed)
    torch.manual_seed(seed)
    values = torch.randn(p.num_edges, requires_grad=True)
    x = torch.randn(m, 3, requires_grad=True)
    upstream = torch.randn(n, 3)
    fast = torch.autograd.grad(aggregate(p, values, x), (values, x), upstream)
    slow = torch.autograd.grad(dense(p, values) @ x, (values, x), upstream)
    for got, want in zip(fast, slow, strict=True):
        torch.testing.assert_close(got, want)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 1000))
def test_edge_dot_and_its_gradients_equal_the_gathered_product(n: int, m: int, seed: int) -> None:
    p = pattern(n, m, seed)
    torch.manual_seed(seed)
    x, y = torch.randn(n, 3, requires_grad=True), torch.randn(m, 3, requires_grad=True)
    rows = torch.repeat_interleave(torch.arange(n), p.crow.diff())
    upstream = torch.randn(p.num_edges)
    fast = torch.autograd.grad(edge_dot(p, x, y), (x, y), upstream)
    slow = torch.autograd.grad((x[rows] * y[p.col]).sum(1), (x, y), upstream)
    for got, want in zip(fast, slow, strict=True):
        torch.testing.assert_close(got, want)


def test_row_sums_count_rows_without_edges_as_zero() -> None:
    p = Pattern(sp.csr_matrix(np.array([[0, 2, 3], [0, 0, 0], [1, 0, 0]], np.float32)))
    assert p.row_sums(p.prior).tolist() == [5.0, 0.0, 1.0]
    assert p.per_edge(torch.tensor([7.0, 8.0, 9.0])).tolist() == [7.0, 7.0, 9.0]
