"""Stage `graphs`: who bought what, and which items belong together, each relation in a file of its own.

`docs/GRAPHS.md` says what each edge means. Only `user_item.npz` and the bought edges of `hetero.npz` hold rows of the
held-out splits, with their split beside them; every item-item edge comes from item vectors or from split 0.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from offline_jobs.array_types import BoolArray, FloatArray, IntArray
from offline_jobs.co_bought import Interactions, read_interactions
from offline_jobs.co_purchase import co_purchase
from offline_jobs.compute import Device, resolve_compute
from offline_jobs.given_graphs import given_graphs
from offline_jobs.knn import Knn, nearest
from service.errors import DataError
from training.dataset import TRAIN
from training.stage import Stage, open_stage, require

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

log = logging.getLogger(__name__)

VERSION = 2
ITEM_RELATIONS = ("text_knn", "image_knn", "fused_knn", "co_purchase")
TABLES = {
    "text_knn": ("text_embeddings", "vectors"),
    "image_knn": ("image_embeddings", "vectors"),
    "fused_knn": ("fusion", "fused"),
}
"""Which stage's table each nearest-neighbour graph is made of."""
INPUT_STAGES = ("ingest", "split", "text_embeddings", "image_embeddings", "fusion")
AGREEING_ROWS = 32_768
"""Items whose neighbours are compared at once."""


class GraphSettings(BaseModel):
    """How the graphs are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    k: int = Field(20, ge=1)
    """Neighbours of an item in each item-item graph."""
    exact_up_to: int = Field(100_000, ge=0)
    """Up to so many items neighbours are exact; beyond, approximate with measured recall, except on a GPU."""
    recall: float = Field(0.98, gt=0, le=1)
    """Share of the exact neighbours that the approximate search is set to find."""
    min_recall: float = Field(0.95, ge=0, le=1)
    """Where less is measured, the search looks further, and at last at everything."""
    device: Device = "auto"
    """Where exact neighbours are computed: cuda takes all items; auto uses it where there is one."""
    max_items_per_user: int = Field(200, ge=2)
    """Of a shopper with more training purchases only the last so many count for co-purchase."""
    given: Path | None = None
    """File with the nearest items by text and by image (.npz, see `given_graphs.py`), taken instead of the embeddings'
    own."""
    seed: int = 0
    """Seed of the lists of the approximate search and of the items on which its recall is measured."""


def run_graphs(settings: GraphSettings, work: Path) -> None:
    """Make every graph from the stages before it and write `<work>/graphs`; skipped where nothing changed.

    A killed run keeps the relations that it finished.
    """
    inputs = {name: require(work, name) for name in INPUT_STAGES}
    if settings.given is not None:
        inputs["given"] = settings.given
    with open_stage(work, "graphs", version=VERSION, inputs=inputs, settings=settings) as stage:
        if stage.fresh:
            return
        x = np.load(inputs["fusion"] / "fused.npy", mmap_mode="r")
        num_users = pl.scan_parquet(inputs["ingest"] / "users.parquet").select(pl.len()).collect().item()
        bought = read_interactions(inputs["split"], len(x))
        if len(bought) and bought.user_row.max() >= num_users:
            raise DataError(
                f"user_row {bought.user_row.max()} is beyond the {num_users} users",
                where=str(inputs["split"] / "interactions.npz"),
                todo="Run ingest and split again",
            )
        np.savez(
            stage.out / "user_item.npz",
            user_row=bought.user_row,
            item_row=bought.item_row,
            timestamp=bought.timestamp,
            split=bought.split,
        )
        given = given_graphs(settings.given, inputs["ingest"] / "items.parquet") if settings.given else {}
        relations = {
            name: given[name]
            if name in given
            else _kept(stage, name, partial(_knn_of, inputs, name, len(x), settings, stage.scratch / name))
            for name in TABLES
        }
        relations["co_purchase"] = _kept(
            stage,
            "co_purchase",
            lambda: co_purchase(bought, len(x), k=settings.k, max_items_per_user=settings.max_items_per_user),
        )
        agreement = agreeing(relations["text_knn"], relations["image_knn"])
        for name, graph in {**relations, "agreement": agreement}.items():
            graph.save(stage.out / f"{name}.npz")
        save_hetero(stage.out / "hetero.npz", num_users, x, bought, relations)
        stage.count(
            users=num_users,
            items=len(x),
            edges_user_item=len(bought),
            edges_user_item_train=int((bought.split == TRAIN).sum()),
            edges_agreement=agreement.num_edges(),
            **{f"edges_{name}": graph.num_edges() for name, graph in relations.items()},
            **{f"recall_{name}": relations[name].recall for name in TABLES},
            **{f"probes_{name}": relations[name].probes for name in TABLES},
            isolated_items=_isolated(bought, relations, len(x)),
        )


def _kept(stage: Stage, name: str, make: Callable[[], Knn]) -> Knn:
    """The relation that a killed run left in the stage's scratch, or a new one, which is left there."""
    file = stage.scratch / f"{name}.npz"
    if file.exists():
        log.info("%s: already there", name)
        with np.load(file, allow_pickle=False) as kept:
            return Knn(
                kept["neighbors"], kept["weights"], bool(kept["is_exact"]), float(kept["recall"]), int(kept["probes"])
            )
    graph = make()
    part = file.with_suffix(".part.npz")
    np.savez(
        part,
        neighbors=graph.neighbors,
        weights=graph.weights,
        is_exact=graph.is_exact,
        recall=graph.recall,
        probes=graph.probes,
    )
    os.replace(part, file)
    return graph


def _knn_of(inputs: dict[str, Path], relation: str, items: int, settings: GraphSettings, scratch: Path) -> Knn:
    stage, table = TABLES[relation]
    vectors: FloatArray = np.load(inputs[stage] / f"{table}.npy", mmap_mode="r")
    present: BoolArray = np.load(inputs[stage] / "present.npy")
    if len(vectors) != items or len(present) != items:
        raise DataError(
            f"{len(vectors)} vectors and {len(present)} presence bits for {items} items",
            where=str(inputs[stage]),
            todo="Run that stage again",
        )
    scratch.mkdir(exist_ok=True)
    on, _ = resolve_compute(settings.device, "fp32")
    return nearest(
        vectors,
        present,
        settings.k,
        exact_up_to=settings.exact_up_to,
        recall=settings.recall,
        min_recall=settings.min_recall,
        seed=settings.seed,
        device=None if on == "cpu" else on,
        scratch=scratch,
        title=relation,
    )


def _isolated(bought: Interactions, relations: dict[str, Knn], items: int) -> int:
    """Items without an edge in any item relation or the training purchases."""
    linked = np.zeros(items, dtype=np.bool_)
    linked[bought.item_row[bought.split == TRAIN]] = True
    for graph in relations.values():
        there = graph.neighbors >= 0
        linked |= there.any(axis=1)
        linked[graph.neighbors[there]] = True
    return int((~linked).sum())


def agreeing(text: Knn, image: Knn) -> Knn:
    """Edges that both graphs have, weighted by the mean of the two cosines, best first; ties to the lower item_row."""
    parts = [
        _agreeing_rows(text, image, slice(start, start + AGREEING_ROWS))
        for start in range(0, max(len(text.neighbors), 1), AGREEING_ROWS)
    ]
    neighbors, weights = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Knn(neighbors, weights, is_exact=text.is_exact and image.is_exact, recall=min(text.recall, image.recall))


def _agreeing_rows(text: Knn, image: Knn, rows: slice) -> tuple[IntArray, FloatArray]:
    left, right = text.neighbors[rows], image.neighbors[rows]
    same = (left[:, :, None] == right[:, None, :]) & (left >= 0)[:, :, None]
    there = same.any(axis=2)
    other = np.take_along_axis(image.weights[rows], same.argmax(axis=2), axis=1)
    weights = np.where(there, (text.weights[rows] + other) / 2, -np.inf).astype(np.float32)
    order = np.lexsort((left, -weights), axis=1)
    there = np.take_along_axis(there, order, axis=1)
    neighbors: IntArray = np.where(there, np.take_along_axis(left, order, axis=1), np.int32(-1))
    return neighbors, np.where(there, np.take_along_axis(weights, order, axis=1), np.float32(0))


def save_hetero(path: Path, num_users: int, x: FloatArray, bought: Interactions, relations: dict[str, Knn]) -> None:
    """Write what `load_hetero` reads: nodes, item features x (items, dim), and each relation's edges apart."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "num_users": np.array(num_users),
        "x": x,
        "bought_index": np.stack([bought.user_row, bought.item_row]),
        "bought_time": bought.timestamp,
        "bought_split": bought.split,
    }
    for name, graph in relations.items():
        row, place = np.nonzero(graph.neighbors >= 0)
        arrays[f"{name}_index"] = np.stack([graph.neighbors[row, place], row.astype(np.int32)])
        arrays[f"{name}_weight"] = graph.weights[row, place]
    np.savez(path, allow_pickle=False, **arrays)


def load_hetero(path: Path, splits: Sequence[int] = (TRAIN,)) -> HeteroData:
    """The heterogeneous graph, every edge type kept apart; of the bought edges only those of `splits`.

    Nodes: user (`num_nodes`), item (`x` (items, dim) float32). Edge types: (user, bought, item) and its reverse
    (item, bought_by, user) with `time` (edges,) int64; (item, text_knn | image_knn | fused_knn | co_purchase, item)
    with `edge_weight` (edges,) float32. `edge_index` (2, edges) int64: row 0 is the neighbour that sends, row 1 the
    item that receives, so that an item hears its own k neighbours.
    """
    import torch

    with warnings.catch_warnings():
        # torch-geometric 2.8 scripts a class while it is imported, which torch 2.13 has deprecated.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated", category=DeprecationWarning)
        from torch_geometric.data import HeteroData

    data = HeteroData()
    with np.load(path) as file:
        data["user"].num_nodes = int(file["num_users"])
        data["item"].x = torch.from_numpy(file["x"])
        data["item"].num_nodes = len(file["x"])
        kept = np.isin(file["bought_split"], list(splits))
        bought = torch.from_numpy(file["bought_index"][:, kept].astype(np.int64))
        time = torch.from_numpy(file["bought_time"][kept])
        data["user", "bought", "item"].edge_index = bought
        data["user", "bought", "item"].time = time
        data["item", "bought_by", "user"].edge_index = bought.flip(0)
        data["item", "bought_by", "user"].time = time
        for name in ITEM_RELATIONS:
            data["item", name, "item"].edge_index = torch.from_numpy(file[f"{name}_index"].astype(np.int64))
            data["item", name, "item"].edge_weight = torch.from_numpy(file[f"{name}_weight"])
    return data
