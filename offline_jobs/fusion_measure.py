"""How many co-bought items each way to compare finds, and what the fusion finds more, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline_jobs.array_types import BoolArray, FloatArray, RowArray
from offline_jobs.co_bought import Interactions, recalls
from offline_jobs.fusion_fit import MEASURED_AT, embed, judges_of
from offline_jobs.fusion_model import Fusion
from offline_jobs.fusion_settings import FusionSettings
from offline_jobs.item_vectors import IMAGE, TEXT, ItemVectors

Shares = dict[str, dict[str, npt.NDArray[np.float64]]]
"""Way to compare -> kind of target -> each query's share of targets found."""

RESAMPLES = 1_000
KINDS = ("warm", "cold", "cold_among_cold")


@dataclass(frozen=True)
class Difference:
    """Mean of a difference over queries, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def found_by_each(
    model: Fusion, vectors: ItemVectors, rows: Interactions, settings: FusionSettings, *, split: int, max_queries: int
) -> Shares:
    """What the network and the raw vectors find of the split's co-bought items, query by query.

    `fused` has all modalities, `fused_live` text and image alone, as an item new to the service.
    `concatenated_raw` is text and image side by side, `all_raw` every modality.
    """
    shares: Shares = {}
    for kind, judged in judges_of(vectors, rows, settings, split, max_queries).items():
        for name, (table, present) in _ways(model, vectors, judged.rows).items():
            shares.setdefault(name, {})[kind] = recalls(table, present, judged, k=MEASURED_AT)
    return shares


def _ways(model: Fusion, vectors: ItemVectors, rows: RowArray) -> dict[str, tuple[FloatArray, BoolArray]]:
    """Way to compare -> unit vectors (n, d) and presence (n,) of some items."""
    fused, look, meaning = embed(model, vectors, rows)
    text, image = vectors.tables[TEXT], vectors.tables[IMAGE]
    there = vectors.present[rows]
    ways = {
        "fused": (fused, there),
        "look": (look, image.present[rows]),
        "meaning": (meaning, text.present[rows]),
        "text_raw": (text.rows(rows), text.present[rows]),
        "image_raw": (image.rows(rows), image.present[rows]),
        "concatenated_raw": (joined(vectors, rows, (TEXT, IMAGE)), (text.present | image.present)[rows]),
    }
    if len(vectors.tables) > 2:
        ways["fused_live"] = (embed(model, vectors, rows, TEXT, IMAGE)[0], (text.present | image.present)[rows])
        ways["all_raw"] = (joined(vectors, rows, tuple(vectors.tables)), there)
    return ways


def joined(vectors: ItemVectors, rows: RowArray, names: tuple[str, ...]) -> FloatArray:
    """Some modalities' raw vectors side by side, as unit rows (n, widths): what needs no learning."""
    side: FloatArray = np.concatenate([vectors.tables[name].rows(rows) for name in names], axis=1)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    return side


def means(shares: Shares) -> dict[str, dict[str, float | None]]:
    """recall@20 by way and kind; null where there are no such targets."""
    return {
        name: {kind: round(float(found[kind].mean()), 5) if kind in found else None for kind in KINDS}
        for name, found in shares.items()
    }


def difference(better: npt.NDArray[np.float64], worse: npt.NDArray[np.float64], seed: int = 0) -> Difference:
    """Paired bootstrap over queries: both (queries,), of the same queries in the same order."""
    gap = better - worse
    rng = np.random.default_rng(seed)
    drawn = [gap[rng.integers(0, len(gap), len(gap))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(round(float(gap.mean()), 5), round(float(low), 5), round(float(high), 5))


def differences(shares: Shares, of: str = "fused") -> dict[str, dict[str, Difference]]:
    """What `of` finds more than each raw way, by way and kind of target."""
    raw: Mapping[str, dict[str, npt.NDArray[np.float64]]] = {n: s for n, s in shares.items() if n.endswith("_raw")}
    return (
        {name: {kind: difference(shares[of][kind], found[kind]) for kind in found} for name, found in raw.items()}
        if of in shares
        else {}
    )
