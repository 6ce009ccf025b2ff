"""Stage `index`: the FAISS index over the item vectors that are published, with its recall measured.

Recall is measured where it counts: on the user vectors of real shoppers, against an exact search. The popularity
column makes item vectors unequally long, which is hard on a graph index; so the search goes as deep as the wanted
recall takes, and where no depth reaches it the index is a flat one, which is exact.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from service.bundle.manifest import FaissIndex
from service.errors import StageError
from training.dataset import load_interactions
from training.histories import Histories, histories, past_of, user_vectors
from training.stage import open_stage, require

log = logging.getLogger(__name__)

VERSION = 1
FLAT = "Flat"
DEPTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""HNSW's search depths that are tried, as multiples of the candidates: FAISS never searches less deep than k."""
ROUNDING = 1e-4
"""Scores that differ by less, as a share of the score, are a tie: FAISS and the reference round differently."""

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class IndexSettings(BaseModel):
    """How the index is built and how deep it is searched."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    factory: str = Field(default="HNSW32", pattern=r"^(Flat|HNSW\d+(,Flat)?)$")
    """FAISS factory: HNSW32 (a graph with 32 links an item) or Flat (exact)."""
    ef_construction: int = Field(default=200, ge=8)
    """How thoroughly HNSW's graph is built: larger is slower to build and finds more."""
    min_recall: float = Field(default=0.95, gt=0, le=1)
    """Share of the exact candidates that the index must find; the search is as deep as this takes."""
    shoppers: int = Field(default=1000, ge=1)
    """At most so many shoppers, drawn by seed, are asked for to measure recall."""
    seed: int = Field(default=0, ge=0)
    """Seed of the shoppers drawn."""


def run_index(settings: IndexSettings, work: Path) -> None:
    """Write `<work>/index/`: index.faiss and index.json (a `FaissIndex`); needs the stages refit and split.

    Raises StageError where there is no shopper to measure with.
    """
    inputs = {name: require(work, name) for name in ("refit", "ingest", "split")}
    with open_stage(work, "index", version=VERSION, inputs=inputs, settings=settings) as stage:
        if stage.fresh:
            return
        items: Floats = np.load(inputs["refit"] / "item_vectors.npy", allow_pickle=False)
        refit = json.loads((inputs["refit"] / "refit.json").read_text())
        queries = shopper_vectors(work, refit, settings)
        index, described = build_index(items, queries, int(refit["num_candidates"]), settings)
        faiss.write_index(index, str(stage.out / "index.faiss"))
        (stage.out / "index.json").write_text(described.model_dump_json(indent=2) + "\n")
        stage.count(
            items=described.ntotal,
            fell_back_to_flat=int(settings.factory != FLAT and described.factory == FLAT),
            ef_search=described.ef_search or 0,
            **{f"recall_at_{k}": recall for k, recall in described.recall_at.items()},
        )


def build_index(items: Floats, queries: Floats, num_candidates: int, settings: IndexSettings) -> tuple[Any, FaissIndex]:
    """The index over items (n, dim) with the smallest depth that finds enough for queries (m, dim), else a flat one."""
    wide, narrow = min(num_candidates, len(items)), min(20, num_candidates, len(items))
    best = exact_scores(items, queries, wide)
    index = _built(items, settings.factory, settings.ef_construction)
    recall = 0.0
    for depth in _depths(settings.factory, wide):
        if depth is not None:
            index.hnsw.efSearch = depth
        recall = recall_of(index, items, queries, best, wide)
        if recall >= settings.min_recall:
            at = {narrow: recall_of(index, items, queries, best, narrow), wide: recall}
            return index, _described(items, queries, settings.factory, depth, at)
        log.info("index: recall@%d is %.4f at depth %s", wide, recall, depth)
    log.warning(
        "index: %s finds %.4f of the best %d at its largest depth, wanted are %.4f: the index is exact (Flat) instead",
        settings.factory,
        recall,
        wide,
        settings.min_recall,
    )
    index = _built(items, FLAT, settings.ef_construction)
    at = {k: recall_of(index, items, queries, best, k) for k in (narrow, wide)}
    return index, _described(items, queries, FLAT, None, at)


def shopper_vectors(work: Path, refit: dict[str, Any], settings: IndexSettings) -> Floats:
    """(m, dim) vectors of up to `settings.shoppers` shoppers with a past, as the user tower computes them."""
    interactions = load_interactions(work).within(refit["splits"])
    everyone = histories(past_of(interactions), now=int(refit["as_of"]), length=int(refit["history_length"]))
    able = np.flatnonzero(everyone.mask.any(axis=1))
    if not len(able):
        raise StageError("no shopper has a past", where=str(work / "split"), todo="Check what ingest has kept")
    drawn = np.random.default_rng(settings.seed).choice(able, min(settings.shoppers, len(able)), replace=False)
    few = Histories(everyone.rows[drawn], everyone.mask[drawn], everyone.age_days[drawn])
    events: Floats = np.load(work / "refit" / "history_vectors.npy", mmap_mode="r", allow_pickle=False)
    return user_vectors(few, events, float(refit["decay_per_day"]))


def exact_scores(items: Floats, queries: Floats, k: int) -> Floats:
    """(m, k) the k largest inner products of each query, descending."""
    parts = [-np.sort(-(queries[part] @ items.T), axis=1)[:, :k] for part in _blocks(len(queries))]
    return np.concatenate(parts)


def recall_of(index: Any, items: Floats, queries: Floats, best: Floats, k: int) -> float:
    """Mean share of the exact best k that `index` returns; an item that ties with the k-th best counts as one."""
    found = 0
    for part in _blocks(len(queries)):
        _, labels = index.search(np.ascontiguousarray(queries[part]), k)
        scores = np.einsum("md,mkd->mk", queries[part], items[np.maximum(labels, 0)])
        least = best[part, k - 1 : k]
        found += int(((labels >= 0) & (scores >= least - ROUNDING * np.abs(least))).sum())
    return found / (len(queries) * k)


def _built(items: Floats, factory: str, ef_construction: int) -> Any:
    """The index over `items`; on one thread, so that the same vectors give the same graph."""
    index: Any = faiss.index_factory(items.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if factory != FLAT:
        index.hnsw.efConstruction = ef_construction
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    index.add(np.ascontiguousarray(items))
    faiss.omp_set_num_threads(threads)
    return index


def _depths(factory: str, wide: int) -> list[int | None]:
    return [None] if factory == FLAT else [int(wide * depth) for depth in DEPTHS]


def _described(items: Floats, queries: Floats, factory: str, depth: int | None, at: dict[int, float]) -> FaissIndex:
    rounded = {k: round(recall, 5) for k, recall in at.items()}
    n, dim = items.shape
    return FaissIndex(factory=factory, dim=dim, ntotal=n, ef_search=depth, recall_at=rounded, queries=len(queries))


def _blocks(count: int, size: int = 128) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
