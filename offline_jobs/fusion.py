"""Stage `fusion`: text (384) and image (512) vectors into one learned 128-d item vector, either may be missing.

Learned from pairs of items that one shopper bought close in time (training split alone), from pairs of a picture
and its own text, and with either modality hidden at random. Stopped early on validation's co-bought pairs.
"""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor

from offline_jobs.array_types import FloatArray, IntArray
from offline_jobs.co_bought import (
    Interactions,
    held_out_pairs,
    read_interactions,
    recall_of_co_bought,
    training_pairs,
)
from offline_jobs.fusion_export import PRESENCE_CASES, export_onnx, onnx_parity
from offline_jobs.fusion_model import Fusion, align, softmax_over_pairs
from offline_jobs.item_vectors import ItemVectors, read_vectors
from training.dataset import TRAIN, VALIDATION
from training.stage import open_stage, require
from training.threads import torch_threads

log = logging.getLogger(__name__)

VERSION = 1
MEASURED_AT = 20
CLEARLY_BETTER = 1.005
"""Times the recall at the last clear gain: less is noise, and a small shop need not wait for it."""


class FusionSettings(BaseModel):
    """How the fused item vectors are learned."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dim: int = Field(128, ge=8)
    """Length of a fused vector."""
    hidden: int = Field(256, ge=8)
    """Width of the hidden layer."""
    epochs: int = Field(24, ge=0)
    """At most so many passes; 0 keeps the PCA that the network starts from."""
    patience: int = Field(3, ge=1)
    """Passes without a clearly better validation recall (half a percent of it) before learning stops."""
    pairs_per_epoch: int = Field(50_000, ge=1)
    """At most so many co-bought pairs in one pass, drawn anew each time."""
    batch_pairs: int = Field(1024, ge=2)
    """Pairs in one step; the other pairs' items are the negatives."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's step size."""
    temperature: float = Field(0.1, gt=0)
    """Cosines are divided by this before the softmax over co-bought pairs."""
    popularity: float = Field(1.0, ge=0, le=1)
    """How much of an item's popularity is learned: 1 is the softmax over all items, 0 what pairs say beyond it."""
    align_weight: float = Field(0.1, ge=0)
    """Weight of the loss that brings an item's picture and its own text together."""
    align_temperature: float = Field(0.1, gt=0)
    """Cosines are divided by this before the softmax over pictures and texts."""
    align_items: int = Field(512, ge=2)
    """Items of one step whose picture and text are brought together."""
    modality_dropout: float = Field(0.4, ge=0, lt=1)
    """Share of the items with both modalities for which one of them is hidden in a step."""
    window_days: float = Field(7.0, gt=0)
    """Two purchases of one shopper at most so many days apart make a pair."""
    reach: int = Field(10, ge=1)
    """Two purchases of one shopper at most so many purchases apart make a pair."""
    seed: int = 0
    """Seed of the weights, the pairs' order and the hidden modalities."""


def run_fusion(settings: FusionSettings, work: Path) -> None:
    """Learn the fusion from the stages before it and write `<work>/fusion`; skipped where nothing changed."""
    inputs = {name: require(work, name) for name in ("split", "text_embeddings", "image_embeddings")}
    with open_stage(work, "fusion", version=VERSION, inputs=inputs, settings=settings) as stage:
        if stage.fresh:
            return
        vectors = read_vectors(inputs["text_embeddings"], inputs["image_embeddings"])
        rows = read_interactions(inputs["split"], len(vectors))
        # The steps are small: a second thread does not help, and made them seven times slower where cores are shared.
        with torch_threads(1):
            model, history = fit(vectors, rows, settings)
            fused, look, meaning = embed(model, vectors)
        np.save(stage.out / "fused.npy", fused)
        np.save(stage.out / "look.npy", look)
        np.save(stage.out / "meaning.npy", meaning)
        np.save(stage.out / "present.npy", vectors.present)
        save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()},
            stage.out / "fusion.safetensors",
        )
        export_onnx(model, stage.out / "fusion.onnx")
        parity = onnx_parity(model, stage.out / "fusion.onnx", vectors, settings.seed)
        recalls = measure(vectors, {"fused": fused, "look": look, "meaning": meaning}, rows, settings)
        metrics = {
            "recall_at_20_of_co_bought": recalls,
            "onnx_largest_difference": parity,
            "onnx_cases": len(PRESENCE_CASES),
            "history": history,
        }
        (stage.out / "metrics.json").write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
        stage.count(
            items=len(vectors),
            items_present=int(vectors.present.sum()),
            epochs=len(history) - 1,
            onnx_largest_difference=parity,
            **{
                f"recall_{of}_{name}": value
                for name, figures in recalls.items()
                for of, value in figures.items()
                if value is not None
            },
        )


def fit(
    vectors: ItemVectors, rows: Interactions, settings: FusionSettings
) -> tuple[Fusion, list[dict[str, float | None]]]:
    """The network with the best validation recall, and the loss and recall after each pass (pass 0 is the PCA)."""
    torch.manual_seed(settings.seed)
    model = Fusion(vectors.text.shape[1], vectors.image.shape[1], settings.hidden, settings.dim)
    both = np.flatnonzero(vectors.text_present & vectors.image_present)
    start = both if len(both) > 1 else np.flatnonzero(vectors.present)
    if len(start) > 1:
        model.start_at_pca(vectors.text[start], vectors.image[start])
    pairs = _pairs(rows, settings)
    pairs = pairs[vectors.present[pairs].all(axis=1)]
    validation = _validation_pairs(rows, settings)
    recall = recall_of_co_bought(embed(model, vectors)[0], vectors.present, validation, k=MEASURED_AT)
    history: list[dict[str, float | None]] = [{"loss": None, "validation_recall": _or_none(recall)}]
    best, best_recall, mark, since = copy.deepcopy(model.state_dict()), recall, recall, 0
    log_share = _log_share(pairs, len(vectors))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    rng = np.random.default_rng(settings.seed)
    with Progress(console=Console(stderr=True)) as progress:
        steps = -(-min(len(pairs), settings.pairs_per_epoch) // settings.batch_pairs)
        bar = progress.add_task("fusion", total=settings.epochs * steps)
        for _epoch in range(settings.epochs if len(pairs) else 0):
            drawn = pairs[rng.permutation(len(pairs))[: settings.pairs_per_epoch]]
            losses = []
            for batch in np.array_split(drawn, steps):
                losses.append(_step(model, optimizer, vectors, batch, log_share, rng, settings))
                progress.advance(bar)
            recall = recall_of_co_bought(embed(model, vectors)[0], vectors.present, validation, k=MEASURED_AT)
            history.append({"loss": float(np.mean(losses)), "validation_recall": _or_none(recall)})
            log.info("fusion: pass %d, loss %.4f, recall %.4f", len(history) - 1, np.mean(losses), recall)
            if recall > best_recall or not len(validation):
                best, best_recall = copy.deepcopy(model.state_dict()), recall
            since = 0 if recall > CLEARLY_BETTER * mark or not len(validation) else since + 1
            mark = recall if since == 0 else mark
            if since >= settings.patience:
                break
        progress.update(bar, completed=settings.epochs * steps)
    model.load_state_dict(best)
    return model.eval(), history


def _step(
    model: Fusion,
    optimizer: torch.optim.Optimizer,
    vectors: ItemVectors,
    batch: IntArray,
    log_share: Tensor,
    rng: np.random.Generator,
    settings: FusionSettings,
) -> float:
    """One gradient step on co-bought pairs (p, 2) and on their items' pictures and texts; the loss."""
    items, place = np.unique(batch, return_inverse=True)
    place = place.reshape(-1, 2)
    text, image, t, v = vectors.inputs(items)
    parts = model.project(text, image)
    both = (t * v).bool()[:, 0]
    hide = torch.from_numpy(rng.random(len(items)).astype(np.float32))[:, None]
    hide_text = both[:, None] & (hide < settings.modality_dropout / 2)
    hide_image = both[:, None] & (hide >= 1 - settings.modality_dropout / 2)
    seen = model.mix(parts, t.masked_fill(hide_text, 0), v.masked_fill(hide_image, 0))
    row = torch.from_numpy(batch.astype(np.int64))
    end = torch.from_numpy(place.astype(np.int64))
    # index_select and not seen[end]: the gradient of the latter adds up in an order that differs from run to run.
    loss = softmax_over_pairs(
        seen.index_select(0, end[:, 0]),
        seen.index_select(0, end[:, 1]),
        row[:, 0],
        row[:, 1],
        log_share,
        temperature=settings.temperature,
        popularity=settings.popularity,
    )
    aligned = rng.permutation(np.flatnonzero(both.numpy()))[: settings.align_items]
    if settings.align_weight > 0 and len(aligned) > 1:
        few = tuple(part[aligned] for part in parts)
        yes, no = torch.ones(len(aligned), 1), torch.zeros(len(aligned), 1)
        look, meaning = model.mix(few, no, yes), model.mix(few, yes, no)
        loss = loss + settings.align_weight * align(look, meaning, settings.align_temperature)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def embed(model: Fusion, vectors: ItemVectors, batch: int = 8_192) -> tuple[FloatArray, FloatArray, FloatArray]:
    """fused, look and meaning (items, dim) float32 of every item; zero rows where absent."""
    model.eval()
    outputs: list[tuple[FloatArray, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(vectors), batch):
            rows = np.arange(start, min(start + batch, len(vectors)))
            outputs.append(tuple(part.numpy() for part in model(*vectors.inputs(rows))))
    model.train()
    fused, look, meaning = (np.concatenate(part) for part in zip(*outputs, strict=True))
    return fused, look, meaning


def measure(
    vectors: ItemVectors, learned: dict[str, FloatArray], rows: Interactions, settings: FusionSettings
) -> dict[str, dict[str, float | None]]:
    """recall@20 of validation's co-bought items for each way to compare items; null where there are no such pairs.

    `warm`, `cold`: targets with and without training purchases, among all items; `cold_among_cold`: among cold only.
    """
    joined = np.concatenate([vectors.text, vectors.image], axis=1)
    joined /= np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-12)
    tables = {**learned, "text_raw": vectors.text, "image_raw": vectors.image, "concatenated_raw": joined}
    there = {
        "text_raw": vectors.text_present,
        "meaning": vectors.text_present,
        "image_raw": vectors.image_present,
        "look": vectors.image_present,
    }
    cold = np.ones(len(vectors), dtype=np.bool_)
    cold[rows.item_row[rows.split == TRAIN]] = False
    pairs = _validation_pairs(rows, settings)
    is_cold = cold[pairs[:, 1]]
    result: dict[str, dict[str, float | None]] = {}
    for name, table in tables.items():
        present = there.get(name, vectors.present)
        result[name] = {
            "warm": _or_none(recall_of_co_bought(table, present, pairs[~is_cold], k=MEASURED_AT)),
            "cold": _or_none(recall_of_co_bought(table, present, pairs[is_cold], k=MEASURED_AT)),
            "cold_among_cold": _or_none(
                recall_of_co_bought(table, present, pairs[is_cold], k=MEASURED_AT, candidates=cold)
            ),
        }
    return result


def _pairs(rows: Interactions, settings: FusionSettings) -> IntArray:
    return training_pairs(rows, window_days=settings.window_days, reach=settings.reach, seed=settings.seed)


def _validation_pairs(rows: Interactions, settings: FusionSettings) -> IntArray:
    return held_out_pairs(rows, VALIDATION, window_days=settings.window_days, reach=settings.reach, seed=settings.seed)


def _log_share(pairs: IntArray, num_items: int) -> Tensor:
    """log of each item's share (items,) of the pairs' ends, as if in one pair's end at least."""
    counts = np.bincount(pairs.ravel(), minlength=num_items).clip(min=1)
    return torch.from_numpy(np.log(counts / max(2 * len(pairs), 1)).astype(np.float32))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 5)
