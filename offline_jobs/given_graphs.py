"""Item graphs that a shop brings along, instead of those that embeddings make.

An .npz file without pickle: `text_nbr`, `text_cos`, `image_nbr`, `image_cos`, each (n, k); row r belongs to the item
whose id is the number r, and so do the neighbours. That is the form in which the nearest items of the published
multimodal sets come, whose feature vectors cannot be had.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import polars as pl

from offline_jobs.array_types import BoolArray, FloatArray, IntArray
from offline_jobs.knn import Knn
from service.errors import DataError

KINDS = ("text", "image")


def given_graphs(path: Path, items: Path) -> dict[str, Knn]:
    """`text_knn` and `image_knn` of a file, by item_row; an item is no neighbour of itself.

    Items whose id is no row of the file have no neighbours; rows whose item is not in `items` (items.parquet) are left
    out. Raises DataError where the file is not of this form, or where it knows none of the items.
    """
    ids = pl.read_parquet(items, columns=["item_id"])["item_id"]
    number = ids.cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
    graphs = {}
    for kind in KINDS:
        neighbors, cosine = _arrays(path, kind)
        known = (number >= 0) & (number < len(neighbors))
        if not known.any():
            raise DataError("no item has a row in it", where=str(path), todo="Item ids must be the numbers of its rows")
        row_of = np.full(len(neighbors), -1, np.int32)
        row_of[number[known]] = np.flatnonzero(known)
        graphs[f"{kind}_knn"] = _by_item_row(neighbors, cosine, row_of, number, known)
    return graphs


def _by_item_row(neighbors: IntArray, cosine: FloatArray, row_of: IntArray, number: IntArray, known: BoolArray) -> Knn:
    shape = (len(number), neighbors.shape[1])
    near, weight = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    near[known] = row_of[neighbors[number[known]]]
    weight[known] = cosine[number[known]]
    usable = (near >= 0) & (near != np.arange(len(near), dtype=np.int32)[:, None]) & (weight > 0)
    order = np.argsort(np.where(usable, -weight, np.inf), axis=1, kind="stable")
    usable, near, weight = (np.take_along_axis(table, order, 1) for table in (usable, near, weight))
    return Knn(np.where(usable, near, -1), np.where(usable, weight, 0).astype(np.float32), is_exact=True, recall=1.0)


def _arrays(path: Path, kind: str) -> tuple[IntArray, FloatArray]:
    names = (f"{kind}_nbr", f"{kind}_cos")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if missing := [name for name in names if name not in arrays]:
                raise DataError(f"no array {missing[0]}", where=str(path), todo=f"It must hold {' and '.join(names)}")
            neighbors, cosine = (arrays[name] for name in names)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot be read as .npz ({error})", where=str(path), todo="Check the file") from error
    fits = neighbors.ndim == 2 and neighbors.shape == cosine.shape and np.issubdtype(neighbors.dtype, np.integer)
    if not fits or not np.isfinite(cosine).all() or neighbors.min(initial=0) < 0 or neighbors.max() >= len(neighbors):
        raise DataError(
            f"{names[0]} {neighbors.dtype} {neighbors.shape} and {names[1]} {cosine.dtype} {cosine.shape} do not fit",
            where=str(path),
            todo="Both are (items, k): row numbers from 0 to items - 1, and finite cosines",
        )
    return neighbors, cosine.astype(np.float32)
