"""The frozen graph model equals dense products, and leaves out the edges that it says."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from service.neighborhood import Relation
from training.baselines.frozen_graph import FrozenGraph, degree_sensitive_sample, frozen_item_graph
from training.baselines.lightgcn import LightGcn

NEAR = Relation(np.array([[1, 2], [0, -1], [1, 0]], np.int32), np.array([[0.9, 0.2], [0.9, 0], [0.5, 0.4]], np.float32))
FAR = Relation(np.array([[2], [2], [0]], np.int32), np.ones((3, 1), np.float32))
TRAIN = sp.csr_matrix(np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0], [1, 1, 1]], np.float32))


def test_the_item_graph_is_the_weighted_sum_of_normalised_relations() -> None:
    near = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1]]) / np.sqrt(np.outer([3, 2, 3], [3, 2, 3]))
    far = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 1]]) / 2
    graph = frozen_item_graph({"near": NEAR, "far": FAR}, {"near": 0.9, "far": 0.1})
    np.testing.assert_allclose(graph.toarray(), 0.9 * near + 0.1 * far, rtol=1e-6)


@pytest.mark.parametrize("item_layers", [1, 2])
def test_vectors_and_gradient_equal_the_dense_formula(item_layers: int) -> None:
    graph = frozen_item_graph({"near": NEAR, "far": FAR}, {"near": 0.9, "far": 0.1})
    model = FrozenGraph(TRAIN, graph, dim=5, layers=2, item_layers=item_layers, keep=1.0, seed=0)
    plain = LightGcn(TRAIN, dim=5, layers=2, seed=0)
    dense = torch.from_numpy(np.linalg.matrix_power(graph.toarray(), item_layers))
    want = plain.training_table() + torch.cat([torch.zeros(4, 5), dense @ plain.ego[4:]])
    model.start_epoch(np.random.default_rng(0))
    got = model.training_table()
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(model.table(), want.detach())
    upstream = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        torch.autograd.grad(got, model.ego, upstream)[0], torch.autograd.grad(want, plain.ego, upstream)[0]
    )


def test_training_sees_the_drawn_edges_and_use_sees_all() -> None:
    graph = frozen_item_graph({"near": NEAR}, {"near": 1.0})
    dropped, whole = (
        FrozenGraph(TRAIN, graph, dim=5, layers=2, item_layers=1, keep=keep, seed=0) for keep in (0.4, 1.0)
    )
    dropped.start_epoch(np.random.default_rng(0))
    assert not torch.equal(dropped.training_table(), whole.training_table())
    torch.testing.assert_close(dropped.table(), whole.table())


def test_edges_between_many_and_many_are_kept_less_often() -> None:
    """Shopper 0 has all 40 items and item 0 is everyone's, besides which each other shopper has one item of his own."""
    n = 40
    dense = np.eye(n, dtype=np.float32)
    dense[0] = dense[:, 0] = 1
    train = sp.csr_matrix(dense)
    kept = np.zeros((n, n))
    rng = np.random.default_rng(0)
    for _ in range(200):
        sample = degree_sensitive_sample(train, 0.5, rng)
        assert sample.nnz == round(0.5 * train.nnz)
        assert (sample.toarray() <= dense).all()
        kept += sample.toarray()
    share = kept / 200
    hub, spokes, own = share[0, 0], share[0, 1:].mean(), np.diag(share)[1:].mean()
    assert hub < 0.1 < 0.3 < spokes < 0.6 < own
