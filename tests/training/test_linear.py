"""The linear graph equals its formula written out, sparse in its exact limit too, and finds planted clusters."""

import numpy as np
import pytest
import scipy.sparse as sp

from service.neighborhood import Relation
from training.dataset import TRAIN, Dataset, relation_matrix
from training.linear import LinearSettings, linear_graph

ALL = LinearSettings(ridge=5.0, degree=40, text=0.3, image=0.2, text_then_ease=0.7, ease_then_text=0.4, walk=0.5)


def world(seed: int = 0) -> tuple[sp.csr_matrix, dict[str, Relation]]:
    """60 users, 24 items of which the last two have no interactions, and nearest items of either kind."""
    rng = np.random.default_rng(seed)
    train = (rng.random((60, 24)) < 0.4).astype(np.float32)
    train[:, 22:] = 0
    relations = {}
    for name in ("text_knn", "image_knn"):
        near = np.stack([rng.permutation(np.delete(np.arange(24), i))[:4] for i in range(24)]).astype(np.int32)
        near[rng.random(near.shape) < 0.2] = -1
        relations[name] = Relation(near, np.where(near >= 0, rng.random(near.shape) * 0.5 + 0.5, 0).astype(np.float32))
    return sp.csr_matrix(train), relations


def slow(train: sp.csr_matrix, relations: dict[str, Relation], s: LinearSettings) -> np.ndarray:
    """The formula of the module's docstring with dense matrices and the naive inverse."""
    r = train.toarray().astype(np.float64)
    inverse = np.linalg.inv(r.T @ r + s.ridge * np.eye(r.shape[1]))
    b = -inverse / np.diag(inverse)[None]
    np.fill_diagonal(b, 0)
    count = r.sum(0)
    p = count / count.mean()
    text, image = (relation_matrix(relations[k], weighted=False).toarray() for k in ("text_knn", "image_knn"))
    walk = r / np.sqrt(np.maximum(r.sum(1), 1))[:, None] / np.sqrt(np.maximum(count, 1))[None]
    return (
        b
        + (s.text * text + s.image * image) * p**s.text_exponent
        + s.text_then_ease * text @ b
        + s.ease_then_text * b @ text
        + s.walk * (walk.T @ walk) * p**s.walk_exponent
    )


def as_matrix(graph: Relation) -> np.ndarray:
    out = np.zeros((len(graph.neighbors),) * 2)
    row, place = np.nonzero(graph.neighbors >= 0)
    out[row, graph.neighbors[row, place]] = graph.weights[row, place]
    return out


@pytest.mark.parametrize("max_dense", [100, 0], ids=["dense", "sparse"])
def test_every_edge_equals_the_formula(max_dense: int) -> None:
    train, relations = world()
    graph = linear_graph(train, relations, ALL.model_copy(update={"max_dense_items": max_dense}))
    expected = slow(train, relations, ALL)
    np.fill_diagonal(expected, 0)
    got = as_matrix(graph)
    if max_dense:
        np.testing.assert_allclose(got, np.maximum(expected, 0), atol=1e-5)
    else:  # the sparse way drops EASE's negative weights before they are added to something
        assert (got >= np.maximum(expected, 0) - 1e-5).all()
        plain = ALL.model_copy(update={"max_dense_items": 0, "text": 0, "image": 0, "walk": 0})
        plain = plain.model_copy(update={"text_then_ease": 0, "ease_then_text": 0})
        ease = slow(train, relations, plain)
        np.testing.assert_allclose(as_matrix(linear_graph(train, relations, plain)), np.maximum(ease, 0), atol=1e-4)


def test_the_largest_edges_are_kept_and_stand_in_falling_order() -> None:
    train, relations = world()
    whole, few = (linear_graph(train, relations, ALL.model_copy(update={"degree": k})) for k in (40, 3))
    assert few.neighbors.shape == (24, 3)
    assert (np.diff(whole.weights, axis=1) <= 0).all()
    np.testing.assert_array_equal(few.neighbors, whole.neighbors[:, :3])
    assert not (whole.neighbors == np.arange(24)[:, None]).any()


def test_an_item_without_interactions_has_edges_by_content_alone() -> None:
    train, relations = world()
    bare = {name: Relation(np.full((24, 4), -1, np.int32), np.zeros((24, 4), np.float32)) for name in relations}
    assert (linear_graph(train, bare, ALL).neighbors[22:] == -1).all()
    assert (linear_graph(train, relations, ALL).neighbors[22:] >= 0).any(1).all()


def test_what_the_cluster_has_is_found(dataset: Dataset) -> None:
    train = dataset.interactions.within([TRAIN]).matrix()
    graph = linear_graph(train, dataset.relations, LinearSettings(degree=14))
    near = graph.neighbors[:, :10]
    assert (near // 15 == (np.arange(90) // 15)[:, None]).mean() > 0.99
