"""Learning the fusion: gradient steps on co-bought pairs, a look at validation after each pass, and a checkpoint."""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from offline_jobs.array_types import BoolArray, FloatArray, IntArray, RowArray
from offline_jobs.co_bought import Interactions, Judged, held_out_pairs, recalls, training_pairs
from offline_jobs.fusion_model import Fusion, align, softmax_over_pairs
from offline_jobs.fusion_settings import FusionSettings
from offline_jobs.fusion_start import principal_axes
from offline_jobs.item_vectors import BLOCK, IMAGE, TEXT, ItemVectors
from training.checkpoint import load_checkpoint, save_checkpoint
from training.dataset import TRAIN, VALIDATION

log = logging.getLogger(__name__)

MEASURED_AT = 20
AMONG_ALL = ("warm", "cold")
CLEARLY_BETTER = 1.005
"""Times the recall at the last clear gain: less is noise, and a small shop need not wait for it."""


@dataclass
class Course:
    """How far a fit is: what a checkpoint keeps beside the weights."""

    history: list[dict[str, float | None]] = field(default_factory=list)
    """Loss and recall after each pass; pass 0 is the PCA."""
    best: float = float("nan")
    """The best recall so far."""
    mark: float = float("nan")
    """The recall at the last clear gain."""
    since: int = 0
    """Passes since then."""


def new_model(vectors: ItemVectors, settings: FusionSettings) -> Fusion:
    """The network for these modalities, at its principal axes."""
    torch.manual_seed(settings.seed)
    tables = vectors.tables.items()
    model = Fusion(
        {name: table.width for name, table in tables},
        hidden=settings.hidden,
        dim=settings.dim,
        alone=[name for name, table in tables if table.alone],
    )
    model.start_at(principal_axes(vectors, settings.dim, settings.seed))
    return model


def fit(
    vectors: ItemVectors, rows: Interactions, settings: FusionSettings, scratch: Path
) -> tuple[Fusion, list[dict[str, float | None]]]:
    """The network with the best validation recall, and the loss and recall after each pass (pass 0 is the PCA).

    A fit that was killed goes on from the last pass that `scratch` has.
    """
    model = new_model(vectors, settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    pairs = training_pairs(rows, window_days=settings.window_days, reach=settings.reach, seed=settings.seed)
    pairs = pairs[vectors.present[pairs].all(axis=1)]
    found = judges_of(vectors, rows, settings, VALIDATION, settings.judged_queries)
    judges = [judged for kind, judged in found.items() if kind in AMONG_ALL]
    saved = load_checkpoint(scratch, model, optimizer)
    if saved is None:
        recall = _recall(model, vectors, judges)
        course, best = Course([_noted(None, recall)], recall, recall), copy.deepcopy(model.state_dict())
    else:
        course, best = Course(**json.loads(saved.note)), saved.best
    log_share = _log_share(pairs, len(vectors))
    steps = -(-min(len(pairs), settings.pairs_per_epoch) // settings.batch_pairs)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("fusion", total=settings.epochs * steps, completed=(len(course.history) - 1) * steps)
        while steps and len(course.history) <= settings.epochs and course.since < settings.patience:
            rng = np.random.default_rng((settings.seed, len(course.history)))
            drawn = pairs[rng.permutation(len(pairs))[: settings.pairs_per_epoch]]
            losses = []
            for batch in np.array_split(drawn, steps):
                losses.append(_step(model, optimizer, vectors, batch, log_share, rng, settings))
                progress.advance(bar)
            recall = _recall(model, vectors, judges)
            course.history.append(_noted(float(np.mean(losses)), recall))
            log.info("fusion: pass %d, loss %.4f, recall %.4f", len(course.history) - 1, np.mean(losses), recall)
            if recall > course.best or not judges:
                best, course.best = copy.deepcopy(model.state_dict()), recall
            course.since = 0 if recall > CLEARLY_BETTER * course.mark or not judges else course.since + 1
            course.mark = recall if course.since == 0 else course.mark
            save_checkpoint(scratch, model, optimizer, best, json.dumps(asdict(course)))
        progress.update(bar, completed=settings.epochs * steps)
    model.load_state_dict(best)
    return model.eval(), course.history


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
    values, has = vectors.inputs(items)
    parts = model.project(values)
    seen = model.mix(parts, _columns(hidden_at_random(vectors, has.numpy(), settings.live_share, rng)))
    row = torch.from_numpy(batch.astype(np.int64))
    end = torch.from_numpy(place.reshape(-1, 2).astype(np.int64))
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
    text, image = (has[:, model.names.index(name)].numpy() > 0 for name in (TEXT, IMAGE))
    aligned = rng.permutation(np.flatnonzero(text & image))[: settings.align_items]
    if settings.align_weight > 0 and len(aligned) > 1:
        few = [(h[aligned], s[aligned]) for h, s in parts]
        bits = _columns(has[aligned].numpy())
        look, meaning = (model.mix(few, model.only(bits, name)) for name in (IMAGE, TEXT))
        loss = loss + settings.align_weight * align(look, meaning, settings.align_temperature)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def hidden_at_random(vectors: ItemVectors, has: FloatArray, live_share: float, rng: np.random.Generator) -> FloatArray:
    """Presence bits (n, modalities) with some hidden: each by its table's dropout, and for `live_share` of the items
    all but text and image. An item of which nothing that says enough would be left stays as it is.
    """
    names = list(vectors.tables)
    dropout = np.array([table.dropout for table in vectors.tables.values()])
    hide = rng.random(has.shape) < dropout
    side = np.array([name not in (TEXT, IMAGE) for name in names])
    hide |= side & (rng.random(len(has)) < live_share)[:, None]
    shown = np.where(hide, 0, has).astype(np.float32)
    alone = np.array([table.alone for table in vectors.tables.values()])
    kept: FloatArray = np.where(shown[:, alone].any(axis=1, keepdims=True), shown, has)
    return kept


def embed(
    model: Fusion, vectors: ItemVectors, rows: RowArray, *shown: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """fused, look and meaning (n, dim) float32 of some items; `shown` alone is given where any name is."""
    model.eval()
    outputs: list[tuple[FloatArray, ...]] = []
    with torch.inference_mode():
        for block in (rows[start : start + BLOCK] for start in range(0, max(len(rows), 1), BLOCK)):
            values, has = vectors.inputs(block)
            bits = _columns(has.numpy())
            outputs.append(tuple(part.numpy() for part in model(values, model.only(bits, *shown) if shown else bits)))
    model.train()
    fused, look, meaning = (np.concatenate(part) for part in zip(*outputs, strict=True))
    return fused, look, meaning


def judges_of(
    vectors: ItemVectors, rows: Interactions, settings: FusionSettings, split: int, max_queries: int
) -> dict[str, Judged]:
    """Of a split's co-bought items those with (`warm`) and without (`cold`) training purchases; no empty kind.

    `cold_among_cold`: the cold ones looked for among cold items alone; `warm` and `cold` among all.
    """
    # One seed for the order of purchases at the same time: fits of different seeds are judged on the same pairs.
    pairs = held_out_pairs(rows, split, window_days=settings.window_days, reach=settings.reach, seed=0)
    cold = is_cold(rows, len(vectors))
    everyone = np.ones(len(vectors), np.bool_)
    kinds = {
        "warm": (pairs[~cold[pairs[:, 1]]], everyone),
        "cold": (pairs[cold[pairs[:, 1]]], everyone),
        "cold_among_cold": (pairs[cold[pairs[:, 1]]], cold),
    }
    return {
        kind: Judged.of(some, found, max_queries=max_queries, max_candidates=settings.judged_candidates)
        for kind, (some, found) in kinds.items()
        if len(some)
    }


def is_cold(rows: Interactions, num_items: int) -> BoolArray:
    """Items (items,) without a training interaction."""
    cold = np.ones(num_items, dtype=np.bool_)
    cold[rows.item_row[rows.split == TRAIN]] = False
    return cold


def _recall(model: Fusion, vectors: ItemVectors, judges: list[Judged]) -> float:
    """Mean of the kinds' recalls among all items, so that a few cold items count as much as many warm ones."""
    if not judges:
        return float("nan")
    rows = np.unique(np.concatenate([judged.rows for judged in judges]))
    fused = embed(model, vectors, rows)[0]
    found = [
        recalls(fused[np.searchsorted(rows, judged.rows)], vectors.present[judged.rows], judged, k=MEASURED_AT).mean()
        for judged in judges
    ]
    return float(np.mean(found))


def _columns(bits: FloatArray) -> list[Tensor]:
    return list(torch.from_numpy(np.ascontiguousarray(bits.T))[:, :, None])


def _log_share(pairs: IntArray, num_items: int) -> Tensor:
    """log of each item's share (items,) of the pairs' ends, as if in one pair's end at least."""
    counts = np.bincount(pairs.ravel(), minlength=num_items).clip(min=1)
    return torch.from_numpy(np.log(counts / max(2 * len(pairs), 1)).astype(np.float32))


def _noted(loss: float | None, recall: float) -> dict[str, float | None]:
    return {"loss": loss, "validation_recall": None if np.isnan(recall) else round(recall, 5)}
