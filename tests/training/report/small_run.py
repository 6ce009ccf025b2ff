"""A run of small models, really fitted and judged on a small world of planted clusters."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from training import baselines
from training.evaluation.judge import Fitted, judge_model
from training.evaluation.result import Epoch, save_result
from training.ranking_metrics import Scores, per_user, rank_all, to_find

CLUSTERS, ITEMS_EACH, USERS = 12, 20, 400
COLD = 12

Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Shoppers buy by popularity inside one or two clusters, one time in five anywhere; content tells the cluster."""

    train: sp.csr_matrix
    validation: sp.csr_matrix
    test: sp.csr_matrix
    content: npt.NDArray[np.float32]


def world(seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    items = CLUSTERS * ITEMS_EACH
    popular = 1 / (1 + np.arange(items) % ITEMS_EACH)
    parts: list[list[tuple[int, int]]] = [[], [], []]
    cold = rng.choice(items, COLD, replace=False)
    for user in range(USERS):
        home = np.isin(np.arange(items) // ITEMS_EACH, rng.choice(CLUSTERS, 2, replace=False))
        weight = popular * np.where(home, 1.0, 0.02)
        bought = rng.choice(items, rng.integers(5, 25), replace=False, p=weight / weight.sum())
        split = np.where(np.isin(bought, cold), 2, rng.choice(3, len(bought), p=[0.7, 0.1, 0.2]))
        for part, item in zip(split, bought, strict=True):
            parts[part].append((user, item))
    centres = rng.normal(size=(CLUSTERS, 16))
    content = centres[np.arange(items) // ITEMS_EACH] + 0.9 * rng.normal(size=(items, 16))
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    return World(*(_matrix(part, items) for part in parts), content.astype(np.float32))


def _matrix(pairs: list[tuple[int, int]], items: int) -> sp.csr_matrix:
    users, rows = np.array(pairs).T
    return sp.csr_matrix((np.ones(len(pairs), np.float32), (users, rows)), (USERS, items))


def content_and_ease(of: World, ridge: float = 20.0, weight: float = 0.3) -> Scores:
    """EASE, and how alike an item's content is to the shopper's history: the one model here that sees cold items."""
    ease = baselines.ease(of.train, ridge=ridge)
    likeness = of.content @ of.content.T
    count = np.maximum(np.diff(of.train.indptr), 1)[:, None]

    def scores(users: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        linear = ease(users)
        return np.where(linear < -1e8, 0, linear) + weight * (of.train[users] @ likeness / count[users])

    return scores


def factors(of: World, seed: int, epochs: int = 12) -> Fitted:
    """A factorization with a softmax over all items: four steps of Adam an epoch, judged on validation after each."""
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    target = of.train.toarray()
    parts = [0.1 * rng.normal(size=(n, 16)) for n in of.train.shape]
    moments = [(np.zeros_like(part), np.zeros_like(part)) for part in parts]
    curve, step = [], 0
    for epoch in range(1, epochs + 1):
        began = time.perf_counter()
        for _ in range(4):
            step += 1
            loss, slopes = _softmax_loss(*parts, target)
            for part, (mean, square), slope in zip(parts, moments, slopes, strict=True):
                mean += 0.1 * (slope - mean)
                square += 0.001 * (slope**2 - square)
                part -= 0.03 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        passed = time.perf_counter() - began
        scores = (parts[0] @ parts[1].T).astype(np.float32)
        found = _recall(lambda users, scores=scores: scores[users], of)
        curve.append(Epoch(epoch=epoch, loss=loss, validation_recall_at_20=found, seconds=passed))
    settings = {"dim": 16, "learning_rate": 0.03}
    seconds = time.perf_counter() - start
    return Fitted(lambda users: scores[users], sum(part.size for part in parts), tuple(curve), settings, seconds)


def _softmax_loss(left: Table, right: Table, target: Table) -> tuple[float, tuple[Table, Table]]:
    """Mean cross-entropy of the bought items, and its slopes."""
    logits = left @ right.T
    logits -= logits.max(1, keepdims=True)
    likely = np.exp(logits)
    total = likely.sum(1, keepdims=True)
    loss = float(((np.log(total) - logits) * target).sum() / target.sum())
    slope = (likely / total * target.sum(1, keepdims=True) - target) / target.sum()
    return loss, (slope @ right, slope.T @ left)


def _recall(scores: Scores, of: World) -> float:
    relevant, users = to_find(of.train, of.validation)
    return float(per_user(rank_all(scores, users, of.train, k=20), relevant, [20])["recall@20"].mean())


def timed(fit: Callable[[], Scores], parameters: int = 0, **settings: object) -> Fitted:
    start = time.perf_counter()
    scores = fit()
    return Fitted(scores, parameters, (), settings, time.perf_counter() - start)


def write_run(run: Path, *, seeds: int = 3) -> Path:
    """Fit and judge: three baselines, a factorization with several seeds, and content with EASE."""
    of = world()
    counts = np.asarray(of.train.sum(0)).ravel().astype(np.float32)
    items = of.train.shape[1]
    fits: list[tuple[str, str, int, Fitted]] = [
        ("popularity", "Popularity", 0, timed(lambda: baselines.popularity(counts), items)),
        ("item-knn", "ItemKNN", 0, timed(lambda: baselines.item_knn(of.train), items * 100, neighbors=100)),
        ("ease", "EASE", 0, timed(lambda: baselines.ease(of.train, ridge=20.0), items**2, ridge=20.0)),
        ("content+ease", "Content and EASE", 0, timed(lambda: content_and_ease(of), items**2, weight=0.3)),
    ]
    fits += [("factors", "Factors, softmax", seed, factors(of, seed)) for seed in range(seeds)]
    for model, title, seed, fitted in fits:
        result, per_shopper = judge_model(
            model, title, fitted, of.train, of.test,
            dataset="planted clusters", protocol="A", seed=seed, content=of.content, draws=200,
        )  # fmt: skip
        save_result(run, result, per_shopper)
    return run
