"""Spectral features: eigenvectors indeed, the same on every call, and clusters lie apart."""

import numpy as np
import scipy.sparse as sp

from training.spectral import SPREAD, spectral_features


def planted(seed: int = 0) -> sp.csr_matrix:
    """Three clusters of ten items, dense inside and with a few edges between; symmetric-normalised."""
    rng = np.random.default_rng(seed)
    same = (np.arange(30) // 10)[:, None] == (np.arange(30) // 10)[None]
    edges = np.triu(rng.random((30, 30)) < np.where(same, 0.8, 0.02), 1)
    edges = (edges | edges.T).astype(np.float64)
    scale = 1 / np.sqrt(edges.sum(1))
    return sp.csr_matrix(scale[:, None] * edges * scale[None])


def test_features_are_the_leading_eigenvectors_scaled() -> None:
    graph = planted()
    features = spectral_features(graph, 5)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.sqrt((features**2).mean(0)), SPREAD, rtol=1e-4)
    images = graph @ features
    values = (images * features).sum(0) / (features**2).sum(0)
    np.testing.assert_allclose(images, features * values, atol=1e-4)
    np.testing.assert_allclose(values, np.sort(np.linalg.eigvalsh(graph.toarray()))[::-1][:5], atol=1e-4)


def test_the_same_graph_gives_the_same_bits_and_no_more_than_it_has() -> None:
    np.testing.assert_array_equal(spectral_features(planted(), 4), spectral_features(planted(), 4))
    assert spectral_features(planted(), 400).shape == (30, 28)
    assert spectral_features(sp.csr_matrix((2, 2)), 4).shape == (2, 0)


def test_clusters_lie_apart() -> None:
    features = spectral_features(planted(), 3)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    same = (np.arange(30) // 10)[:, None] == (np.arange(30) // 10)[None]
    assert likeness[same].min() > likeness[~same].max()
