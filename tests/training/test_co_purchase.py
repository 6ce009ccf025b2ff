"""Co-purchase edges equal their formula, and know nothing of what is hidden."""

import numpy as np
import scipy.sparse as sp

from training.co_purchase import co_purchase_graph


def test_edges_equal_the_formula_best_first_without_the_item_itself() -> None:
    dense = (np.random.default_rng(0).random((40, 15)) < 0.3).astype(np.float32)
    dense[:, 14] = 0
    together = dense.T @ dense
    count = np.diag(together)
    weight = together / np.sqrt(np.maximum(count[:, None] * count[None], 1))
    np.fill_diagonal(weight, 0)
    graph = co_purchase_graph(sp.csr_matrix(dense), degree=6)
    for item in range(15):
        expected = [j for j in np.lexsort((np.arange(15), -weight[item])) if weight[item, j] > 0][:6]
        assert [j for j in graph.neighbors[item] if j >= 0] == expected
        np.testing.assert_allclose(graph.weights[item, : len(expected)], weight[item, expected], rtol=1e-5)
    assert (graph.neighbors[14] == -1).all()
    assert (graph.weights[graph.neighbors < 0] == 0).all()


def test_a_hidden_interaction_leaves_no_edge() -> None:
    whole = sp.csr_matrix(np.array([[1, 1, 0], [0, 1, 1]], np.float32))
    shown = sp.csr_matrix(np.array([[1, 0, 0], [0, 1, 1]], np.float32))
    assert 1 in co_purchase_graph(whole).neighbors[0]
    assert 1 not in co_purchase_graph(shown).neighbors[0]
