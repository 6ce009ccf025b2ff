"""What lists are like beyond their hits: how much of the shop they show, how evenly, how varied, how popular.

coverage              share of the candidates that stand in anyone's list
Gini                  of how often each candidate is listed; 0 evenly, 1 one item alone
intra-list diversity  mean over shoppers of the mean pairwise 1 - cosine of content (Ziegler et al. 2005)
popularity lift       mean popularity of what is listed over that of what the shoppers have (group average popularity,
                      Abdollahpouri et al. 2019, arXiv:1907.13286); 1 where lists are as popular as histories
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from training.ranking_metrics import Ranking

BLOCK = 5_000_000
"""Numbers of listed items' content held at once."""


def beyond(
    ranking: Ranking,
    known: sp.csr_matrix,
    *,
    k: int,
    content: npt.NDArray[np.float32] | None = None,
    among: npt.NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """`coverage@k`, `gini@k`, `popularity_lift@k`, and with `content` (items, c) `intra_list_diversity@k`.

    Candidates are all items, or those of the mask `among` (items,).
    """
    rows = ranking.rows[:, :k]
    listed = np.bincount(rows[rows >= 0], minlength=known.shape[1])
    if among is not None:
        listed = listed[among]
    figures = {
        f"coverage@{k}": float((listed > 0).mean()),
        f"gini@{k}": gini(listed),
        f"popularity_lift@{k}": popularity_lift(rows, known, ranking.users),
    }
    if content is not None:
        figures[f"intra_list_diversity@{k}"] = intra_list_diversity(rows, content)
    return figures


def gini(counts: npt.NDArray[np.integer]) -> float:
    """Gini coefficient of counts (n,): half their mean absolute difference over their mean; 0 where all are 0."""
    n, total = len(counts), counts.sum()
    if not total:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(counts).astype(np.float64) / (n * total))


def popularity_lift(rows: npt.NDArray[np.int64], known: sp.csr_matrix, users: npt.NDArray[np.int64]) -> float:
    """Popularity of an average list over that of an average history; 0 where nothing is listed.

    The popularity of a list (m, k), and of a shopper's items in `known`, is the mean degree of its items in `known`.
    """
    degree = np.bincount(known.indices, minlength=known.shape[1]).astype(np.float64)
    size = (rows >= 0).sum(1)
    listed = np.where(rows >= 0, degree[rows], 0.0).sum(1)[size > 0] / size[size > 0]
    own = sp.csr_matrix((degree[known.indices], known.indices, known.indptr), known.shape)[users]
    history = np.asarray(own.sum(1)).ravel() / np.maximum(np.diff(own.indptr), 1)
    return float(listed.mean() / history.mean()) if len(listed) else 0.0


def intra_list_diversity(rows: npt.NDArray[np.int64], content: npt.NDArray[np.float32]) -> float:
    """Mean over lists (m, k) of the mean 1 - cosine over pairs of items with content; lists without a pair say nothing.

    The cosines of all pairs of unit vectors add up to (|Σv|² - n) / 2, so no pair is ever made.
    """
    norm = np.linalg.norm(content, axis=1)
    step = max(1, BLOCK // max(rows.shape[1] * content.shape[1], 1))
    found = []
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        told = (part >= 0) & (norm[part] > 0)
        unit = content[part] * (told / np.maximum(norm[part], 1e-12))[:, :, None]
        count = told.sum(1)
        together = (np.square(unit.sum(1, dtype=np.float64)).sum(1) - count) / 2
        some = count > 1
        found.append(1 - together[some] / (count[some] * (count[some] - 1) / 2))
    diversity = np.concatenate(found) if found else np.empty(0)
    return float(diversity.mean()) if len(diversity) else 0.0
