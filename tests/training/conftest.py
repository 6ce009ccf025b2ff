"""A small world of planted clusters for the models: what is right is known."""

from __future__ import annotations

import numpy as np
import pytest

from service.neighborhood import Relation
from training.dataset import TEST, TRAIN, VALIDATION, Dataset, Interactions

CLUSTERS, ITEMS_EACH, USERS_EACH = 6, 15, 25
DAY = 86_400


def planted_interactions(seed: int = 0) -> Interactions:
    """Every shopper buys 8 of the 15 items of one cluster on days 0 to 9; the last two buys are held out."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(CLUSTERS * USERS_EACH):
        cluster = user % CLUSTERS
        items = rng.permutation(ITEMS_EACH)[:8] + cluster * ITEMS_EACH
        days = np.sort(rng.integers(0, 8, 8))
        days[6:] = (8, 9)
        split = [TRAIN] * 6 + [VALIDATION, TEST]
        rows += list(zip([user] * 8, items, days * DAY, split, strict=True))
    table = np.array(sorted(rows, key=lambda r: (r[2], r[0], r[1])))
    return Interactions(
        table[:, 0].astype(np.int32),
        table[:, 1].astype(np.int32),
        table[:, 2].astype(np.int64),
        table[:, 3].astype(np.int8),
        CLUSTERS * USERS_EACH,
        CLUSTERS * ITEMS_EACH,
    )


def planted_dataset(seed: int = 0) -> Dataset:
    """Content that names the cluster, and neighbors inside it."""
    rng = np.random.default_rng(seed + 1)
    n = CLUSTERS * ITEMS_EACH
    centres = rng.normal(size=(CLUSTERS, 128))
    fused = centres[np.arange(n) // ITEMS_EACH] + 0.5 * rng.normal(size=(n, 128))
    fused = (fused / np.linalg.norm(fused, axis=1, keepdims=True)).astype(np.float32)
    likeness = fused @ fused.T
    np.fill_diagonal(likeness, -1)
    neighbors = np.argsort(-likeness, axis=1)[:, :5].astype(np.int32)
    weights = np.take_along_axis(likeness, neighbors, 1).astype(np.float32)
    relation = Relation(neighbors, np.maximum(weights, 0))
    return Dataset(planted_interactions(seed), fused, {"text_knn": relation, "image_knn": relation})


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return planted_dataset()
