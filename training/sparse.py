"""Products over a fixed sparse pattern whose values are learned: what graph attention on a CPU needs.

With E edges and width d, gathering neighbors costs an (E, d) tensor forward and a scatter backward. Here the two
products `edge_dot` and `aggregate` are each other's gradients and both run as one kernel: nothing (E, d) is made.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor


def csr_times(crow: Tensor, col: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """A x of a CSR matrix A: crow (n + 1,), col and values (E,), x (m, d) -> (n, d), without gradient.

    `embedding_bag` is such a product, of rows added in the same order: with 237,102 edges and 64 columns 2.0 ms on an
    AMD core, where torch's own CSR product takes 5.1 ms for the same numbers. `crow` and `col` are of one integer type.
    """
    with torch.no_grad():
        return F.embedding_bag(
            col, x.contiguous(), crow, mode="sum", per_sample_weights=values, include_last_offset=True
        )


class Pattern:
    """The edges of one relation, as CSR over n destination and m source rows, with its transpose prepared."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        """`matrix` (n, m) holds the edges i <- j; its stored values become `prior` (E,) float32."""
        csr = matrix.tocsr()
        csr.sort_indices()
        self.shape = (int(csr.shape[0]), int(csr.shape[1]))
        order = sp.csr_matrix((np.arange(csr.nnz), csr.indices, csr.indptr), csr.shape).tocsc()
        self.crow = torch.from_numpy(csr.indptr.astype(np.int64))
        self.col = torch.from_numpy(csr.indices.astype(np.int64))
        self.prior = torch.from_numpy(csr.data.astype(np.float32))
        self._ccol = torch.from_numpy(order.indptr.astype(np.int64))
        self._row_of_transposed = torch.from_numpy(order.indices.astype(np.int64))
        self._edge_of_transposed = torch.from_numpy(order.data.astype(np.int64))

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.col)

    def times(self, values: Tensor, x: Tensor) -> Tensor:
        """A(values) x: (E,), (m, d) -> (n, d), without gradient."""
        return csr_times(self.crow, self.col, values, x)

    def transposed_times(self, values: Tensor, x: Tensor) -> Tensor:
        """A(values)ᵀ x: (E,), (n, d) -> (m, d), without gradient."""
        return csr_times(self._ccol, self._row_of_transposed, values[self._edge_of_transposed], x)

    def dots(self, x: Tensor, y: Tensor) -> Tensor:
        """x_i · y_j for each edge i <- j: (n, d), (m, d) -> (E,), without gradient."""
        zeros = torch.sparse_csr_tensor(
            self.crow, self.col, torch.zeros(self.num_edges), self.shape, check_invariants=False
        )
        out: Tensor = torch.sparse.sampled_addmm(zeros, x.contiguous(), y.T.contiguous(), beta=0.0).values()
        return out

    def row_sums(self, values: Tensor) -> Tensor:
        """Sum of the values of each destination's edges: (E,) -> (n,); differentiable."""
        return torch.segment_reduce(values, "sum", offsets=self.crow, unsafe=True)

    def per_edge(self, x: Tensor) -> Tensor:
        """x_i for each edge i <- j: (n,) -> (E,); differentiable."""
        return torch.repeat_interleave(x, self.crow.diff())


with warnings.catch_warnings():
    # torch says once a process that its CSR tensors are in beta; said here, it is not said in the middle of a fit.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1.0]), (1, 1))


class _Aggregate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: Pattern, values: Tensor, x: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(values, x)
        return pattern.times(values, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        values, x = ctx.saved_tensors
        grad_values = ctx.pattern.dots(grads[0], x) if ctx.needs_input_grad[1] else None
        grad_x = ctx.pattern.transposed_times(values, grads[0]) if ctx.needs_input_grad[2] else None
        return None, grad_values, grad_x


class _EdgeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: Pattern, x: Tensor, y: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(x, y)
        return pattern.dots(x, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return None, ctx.pattern.times(grads[0], y), ctx.pattern.transposed_times(grads[0], x)


class _AggregateBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: Pattern, x: Tensor) -> Tensor:
        ctx.pattern = pattern
        return pattern.transposed_times(pattern.prior, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, ctx.pattern.times(ctx.pattern.prior, grads[0])


def aggregate(pattern: Pattern, values: Tensor, x: Tensor) -> Tensor:
    """Σ_j values_ij x_j: (E,), (m, d) -> (n, d); differentiable in values and x."""
    out: Tensor = _Aggregate.apply(pattern, values, x)  # type: ignore[no-untyped-call]
    return out


def edge_dot(pattern: Pattern, x: Tensor, y: Tensor) -> Tensor:
    """x_i · y_j for each edge i <- j: (n, d), (m, d) -> (E,); differentiable in x and y."""
    out: Tensor = _EdgeDot.apply(pattern, x, y)  # type: ignore[no-untyped-call]
    return out


def aggregate_back(pattern: Pattern, x: Tensor) -> Tensor:
    """A(prior)ᵀ x: (n, d) -> (m, d), the way back along the edges; differentiable in x."""
    out: Tensor = _AggregateBack.apply(pattern, x)  # type: ignore[no-untyped-call]
    return out
