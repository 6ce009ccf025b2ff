"""The splits that papers judge on, as matrices, from the folder that PLOTPOINTE_REAL_DATA names.

Rows are the numbers of the files themselves. Sports carries no test labels; Gowalla carries no validation split.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from service.neighborhood import Relation

NAMES = ("amazon-baby", "amazon-sports", "amazon-clothing", "gowalla")
NUM_ITEMS = {"amazon-sports": 18_357}
"""Where an item is sold in the held-out test alone."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PublishedSplit:
    """Binary (users, items) float32 matrices; a part that the data lacks is empty."""

    train: sp.csr_matrix
    validation: sp.csr_matrix
    test: sp.csr_matrix


def data_root() -> Path:
    """Where the data lies: `../shared/data` beside the project where the environment names no other folder."""
    return Path(os.environ.get("PLOTPOINTE_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def load_split(name: str) -> PublishedSplit:
    """The split of one of NAMES."""
    folder = data_root() / name
    if name == "gowalla":
        parts = [
            pl.read_parquet(folder / f"{part}.parquet").with_columns(x_label=pl.lit(label))
            for part, label in (("train", 0), ("test", 2))
        ]
        frame = pl.concat(parts)
    else:
        frame = pl.read_csv(folder / f"{name.removeprefix('amazon-')}.inter.gz", separator="\t")
    users, items, labels = (frame[column].to_numpy() for column in ("userID", "itemID", "x_label"))
    shape = (int(users.max()) + 1, max(int(items.max()) + 1, NUM_ITEMS.get(name, 0)))
    return PublishedSplit(*(_matrix(users[labels == part], items[labels == part], shape) for part in (0, 1, 2)))


def load_relations(name: str) -> dict[str, Relation]:
    """`text_knn` and `image_knn` of an Amazon set: the ten nearest and their cosines, the item itself left out."""
    relations = {}
    with np.load(data_root() / name / "modal_knn10.npz", allow_pickle=False) as arrays:
        for kind in ("text", "image"):
            near, cosine = arrays[f"{kind}_nbr"].astype(np.int32), arrays[f"{kind}_cos"].astype(np.float32)
            own = near == np.arange(len(near), dtype=np.int32)[:, None]
            relations[f"{kind}_knn"] = Relation(np.where(own, -1, near), np.where(own, 0, cosine).astype(np.float32))
    return relations


def _matrix(users: Rows, items: Rows, shape: tuple[int, int]) -> sp.csr_matrix:
    matrix = sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
