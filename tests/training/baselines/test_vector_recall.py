"""The quick recall equals the one that models are judged by."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.baselines import vector_recall as module
from training.baselines.vector_recall import vector_recall
from training.ranking_metrics import per_user, rank_all


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 9), m=st.integers(1, 12), k=st.integers(1, 6), seed=st.integers(0, 1000))
def test_it_equals_the_metric_of_the_ranking(n: int, m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = (rng.normal(size=(rows, 3)).astype(np.float32) for rows in (n, m))
    kind = rng.choice(3, size=(n, m), p=[0.5, 0.3, 0.2])
    seen, relevant = (sp.csr_matrix((kind == which).astype(np.float32)) for which in (1, 2))
    got = vector_recall(torch.from_numpy(users), torch.from_numpy(items), seen, relevant, k)
    judged = np.flatnonzero(np.diff(relevant.indptr))
    ranking = rank_all(lambda rows: users[rows] @ items.T, judged, seen, k=k)
    want = per_user(ranking, relevant, [k])[f"recall@{k}"]
    assert got == pytest.approx(float(want.mean()) if len(judged) else 0.0)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    users, items = (torch.from_numpy(rng.normal(size=(rows, 4)).astype(np.float32)) for rows in (40, 25))
    kind = rng.choice(3, size=(40, 25), p=[0.5, 0.3, 0.2])
    seen, relevant = (sp.csr_matrix((kind == which).astype(np.float32)) for which in (1, 2))
    whole = vector_recall(users, items, seen, relevant, 5)
    monkeypatch.setattr(module, "BLOCK", 3 * 25)
    assert vector_recall(users, items, seen, relevant, 5) == whole
