"""The graph-attention models of the ladder, on a published split: what each part of the network adds.

Rungs share everything but what their name says: relations, attention, the linear graph, and last the two stages as
they are served, with a re-ranker that learned from interactions hidden from a first stage of its own.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from benchmarks.models.published_splits import load_relations
from training.dataset import STORED, TRAIN, VALIDATION, Dataset, Interactions
from training.evaluation.judge import Fitted
from training.evaluation.ladder import Rung
from training.evaluation.protocols import inner_split
from training.fit import Curve, fit_members
from training.fit_reranker import FirstStage, Lesson, RerankSettings, fit_reranker, rerank_scores
from training.fit_settings import FitSettings
from training.linear import LinearSettings, linear_graph
from training.presets import PRESETS
from training.ranking_metrics import Scores
from training.tables import Tables
from training.tracking.tracked_run import epochs_of

ALL = "text_knn=0.8,image_knn=0.2,linear=1"
NETWORKS: dict[str, tuple[str, dict[str, object]]] = {
    "gat-text": ("GAT, text", {"relations": "text_knn=1"}),
    "gat": ("GAT, text and image", {"relations": "text_knn=0.8,image_knn=0.2"}),
    "gat+linear-no-attention": ("... linear, no attention", {"relations": ALL, "heads": 0}),
    "gat+linear": ("... and linear edges", {"relations": ALL}),
    "gat+linear-2": ("... two members", {"relations": ALL, "members": 2}),
}
"""Name -> title and what differs from the preset; one member each, but for the last."""


def preset_settings(name: str) -> FitSettings:
    """The network's settings of a preset."""
    pairs = (option.removeprefix("fit-model.").split("=", 1) for option in PRESETS[name] if "fit-model." in option)
    own = {key.replace("-", "_"): value for key, value in pairs}
    return FitSettings.model_validate({key: value for key, value in own.items() if key in FitSettings.model_fields})


def gat_rungs(dataset: str) -> list[Rung]:
    """Every rung of this module for amazon-baby or amazon-sports."""
    networks = [
        Rung(name, title, partial(fit_network, dataset=dataset, changes=changes))
        for name, (title, changes) in NETWORKS.items()
    ]
    linear = Rung("linear", "Linear graph alone", partial(fit_linear_graph, dataset=dataset), seeded=False)
    return [linear, *networks, Rung("served", "Served: two stages", partial(fit_served, dataset=dataset))]


def fit_linear_graph(train: sp.csr_matrix, validation: sp.csr_matrix | None, seed: int, *, dataset: str) -> Fitted:
    """The linear item graph as a model of its own: a shopper's score is the sum over the history."""
    settings = LinearSettings()
    graph = linear_graph(train, load_relations(dataset), settings)
    kept = graph.neighbors >= 0
    indptr = np.concatenate([[0], np.cumsum(kept.sum(1))])
    weights = sp.csr_matrix((graph.weights[kept], graph.neighbors[kept], indptr), (train.shape[1],) * 2)
    return Fitted(
        lambda users: np.asarray((train[users] @ weights).toarray(), np.float32),
        parameters=weights.nnz,
        settings=settings.model_dump(),
    )


def fit_network(
    train: sp.csr_matrix, validation: sp.csr_matrix | None, seed: int, *, dataset: str, changes: dict[str, object]
) -> Fitted:
    """The first stage alone, every item scored."""
    settings = preset_settings(dataset).model_copy(update={"members": 1, "seed": seed} | changes)
    data = dataset_of(train, validation, dataset)
    tables, curve = _fitted(data, data.interactions.within([TRAIN]), settings, VALIDATION)
    first = _first(tables, data, data.interactions.within([TRAIN]), settings)
    return Fitted(
        lambda users: first.vectors[users] @ tables.item_vectors.T,
        parameters=2 * tables.item_vectors.size,
        curve=epochs_of(curve),
        settings=settings.model_dump(),
    )


def fit_served(train: sp.csr_matrix, validation: sp.csr_matrix | None, seed: int, *, dataset: str) -> Fitted:
    """Both stages: items that retrieval misses score nothing."""
    settings = preset_settings(dataset).model_copy(update={"seed": seed})
    data = dataset_of(train, validation, dataset)
    known = data.interactions.within([TRAIN])
    tables, curve = _fitted(data, known, settings, VALIDATION)
    shown, hidden = inner_split(known, share=0.2, seed=seed)
    alone = settings.model_copy(update={"members": 1})
    inner, _ = _fitted(data, shown, alone, None, curve.best_epochs)
    rerank = RerankSettings(max_users=20_000, seed=seed)
    model, _ = fit_reranker([Lesson(_first(inner, data, shown, settings), hidden, shown)], rerank)
    first = _first(tables, data, known, settings)

    def scores(users: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        ranking = first.retrieve(users, k=rerank.num_candidates)
        out = np.full((len(users), train.shape[1]), -np.inf, np.float32)
        row, place = np.nonzero(ranking.rows >= 0)
        out[row, ranking.rows[row, place]] = rerank_scores(model, first, ranking)[row, place]
        return out

    judged: Scores = scores
    return Fitted(judged, 2 * tables.item_vectors.size, epochs_of(curve), settings.model_dump())


def dataset_of(train: sp.csr_matrix, validation: sp.csr_matrix | None, dataset: str) -> Dataset:
    """A published split as the fit takes it: no time, no content but the item graphs."""
    parts = [(train.tocoo(), TRAIN)] + ([] if validation is None else [(validation.tocoo(), VALIDATION)])
    users, items = (np.concatenate([getattr(m, axis) for m, _ in parts]).astype(np.int32) for axis in ("row", "col"))
    label = np.concatenate([np.full(m.nnz, split, np.int8) for m, split in parts])
    interactions = Interactions(users, items, np.zeros(len(users), np.int64), label, *train.shape)
    return Dataset(interactions, np.zeros((train.shape[1], 0), np.float32), load_relations(dataset))


def _fitted(
    data: Dataset, known: Interactions, settings: FitSettings, judged: int | None, epochs: int | None = None
) -> tuple[Tables, Curve]:
    graph = linear_graph(known.matrix(), data.relations, LinearSettings())
    validation = None if judged is None else data.interactions.within([judged])
    with tempfile.TemporaryDirectory() as scratch:
        return fit_members(data, known, settings, graph, validation=validation, epochs=epochs, checkpoint=Path(scratch))


def _first(tables: Tables, data: Dataset, known: Interactions, settings: FitSettings) -> FirstStage:
    stored = tuple(data.relations[name] for name in STORED)
    return FirstStage.of(tables, stored, known, length=settings.history_length)
