"""How good click probabilities and orders are: log loss, calibration error, AUC within a slate, graded NDCG."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def log_loss(probability: Floats, click: Floats) -> float:
    """Mean negative log-likelihood in nats; both of one shape, `click` may hold true probabilities."""
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-(click * np.log(p) + (1 - click) * np.log1p(-p)).mean())


def calibration_error(probability: Floats, click: Floats, *, bins: int = 15) -> float:
    """Expected calibration error over bins of equal size: mean distance of clicks told and clicks seen."""
    p, y = probability.ravel().astype(np.float64), click.ravel().astype(np.float64)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(part) * abs(p[part].mean() - y[part].mean()) for part in parts) / len(p))


def grouped_auc(score: Floats, click: Floats) -> float:
    """AUC inside each slate (n, S), mean over slates with a click and without one: GAUC; ties count half."""
    mixed = (click.sum(1) > 0) & (click.sum(1) < click.shape[1])
    s, y = score[mixed], click[mixed] > 0
    difference = s[:, :, None] - s[:, None, :]
    pair = y[:, :, None] & ~y[:, None, :]
    won = (difference > 0) + 0.5 * (difference == 0)
    return float(((won * pair).sum((1, 2)) / pair.sum((1, 2))).mean())


def graded_ndcg(score: Floats, gain: Floats, *, k: int) -> npt.NDArray[np.float64]:
    """NDCG@k of each list with real-valued gains: (n, C), (n, C) -> (n,). Ties stay in the order given."""
    discount = 1.0 / np.log2(np.arange(2, min(k, score.shape[1]) + 2))
    order = np.argsort(-score, axis=1, kind="stable")[:, : len(discount)]
    found = (np.take_along_axis(gain, order, 1) * discount).sum(1)
    ideal = (-np.sort(-gain, axis=1)[:, : len(discount)] * discount).sum(1)
    return np.asarray(found / np.maximum(ideal, 1e-12), np.float64)
