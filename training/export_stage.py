"""The stage `export` of `plotpointe-train`: ONNX models of the refit, each held against torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from service.bundle.manifest import OnnxModel
from service.bundle.signatures import FUSED_DIM, FUSION, ITEM_TOWER, RERANKER, USER_TOWER, signatures
from service.neighborhood import shares
from training.dataset import RELATIONS, load_relation
from training.export_onnx import OPSET, UserTower, export, history_cases, reranker_cases
from training.item_tower import ItemTower, fit_item_tower
from training.stage import open_stage, require
from training.stages import load_reranker, read_recipe
from training.threads import torch_threads

EXPORT_VERSION = 6
"""Raised with what this stage does; the other stages of training have their own (`training.stages.VERSION`)."""


class ExportSettings(BaseModel):
    """How models are exported."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    item_tower_steps: int = Field(400, ge=1)
    """Steps that fit the tower for new items."""
    seed: int = 0
    """Seeds the item tower and the parity cases."""


def run_export(settings: ExportSettings, work: Path) -> None:
    """Export user tower, re-ranker and item tower; measure their parity, and that of the fusion model."""
    refit, fusion = require(work, "refit"), require(work, "fusion")
    inputs = {
        "fit": require(work, "fit"),
        "refit": refit,
        "fusion": fusion,
        "graphs": require(work, "graphs"),
    }
    with open_stage(work, "export", version=EXPORT_VERSION, inputs=inputs, settings=settings) as stage:
        if stage.fresh:
            return
        recipe = read_recipe(work)
        relations = len(RELATIONS)
        item_vectors, history_vectors, popularity, fused = (
            torch.from_numpy(np.load(path, allow_pickle=False))
            for path in (
                refit / "item_vectors.npy",
                refit / "history_vectors.npy",
                refit / "popularity.npy",
                fusion / "fused.npy",
            )
        )
        dim = item_vectors.shape[1]
        length, seed = recipe.fit.history_length, settings.seed
        models: dict[str, OnnxModel] = {}
        models[USER_TOWER] = export(
            UserTower(recipe.decay_per_day),
            USER_TOWER,
            stage.out / f"{USER_TOWER}.onnx",
            history_cases(history_vectors, length=length, seed=seed),
            dim=dim,
            num_relations=relations,
        )
        models[RERANKER] = export(
            load_reranker(work),
            RERANKER,
            stage.out / f"{RERANKER}.onnx",
            reranker_cases(
                item_vectors, history_vectors, popularity, num_relations=relations, length=length, seed=seed
            ),
            dim=dim,
            num_relations=relations,
        )
        near = load_relation(require(work, "graphs") / "fused_knn.npz")
        neighbors, weights = torch.from_numpy(near.neighbors).long(), torch.from_numpy(shares(near.weights))
        known = torch.nonzero(popularity > 0).flatten()
        torch.manual_seed(seed)
        tower = ItemTower(
            dim=dim,
            fused_dim=FUSED_DIM,
            temperature=recipe.fit.temperature,
            unseen_popularity=float(item_vectors[:, -1].min()),
        )
        with torch_threads(1):
            cosine = fit_item_tower(
                tower, fused, item_vectors, neighbors, weights, known, steps=settings.item_tower_steps, seed=seed
            )
        models[ITEM_TOWER] = export(
            tower,
            ITEM_TOWER,
            stage.out / f"{ITEM_TOWER}.onnx",
            [
                {
                    "fused": fused[rows],
                    "neighbor_vectors": item_vectors[neighbors[rows].clamp(min=0)],
                    "neighbor_weights": weights[rows] * share,
                }
                for rows, share in ((torch.arange(4), 1.0), (known[:1], 1.0), (torch.arange(4), 0.0))
            ],
            dim=dim,
            num_relations=relations,
        )
        fusion_inputs, fusion_outputs = signatures(dim, relations)[FUSION]
        measured = json.loads((fusion / "metrics.json").read_text())
        models[FUSION] = OnnxModel(
            opset=OPSET,
            inputs=fusion_inputs,
            outputs=fusion_outputs,
            parity_max_abs_diff=measured["onnx_largest_difference"],
            parity_cases=measured["onnx_cases"],
        )
        described = {name: model.model_dump(mode="json") for name, model in models.items()}
        (stage.out / "models.json").write_text(json.dumps(described, indent=1))
        stage.count(
            item_tower_cosine=cosine,
            **{f"{name}_parity": model.parity_max_abs_diff for name, model in models.items()},
        )
