"""Seconds and memory of the graph stage's parts that are not a search: bipartite, co-purchase, agreement, saving.

    python benchmarks/offline/graphs.py --items 498196 --users 192403 --interactions 1689188 --out results.jsonl

Purchases are drawn with the long tails of a shop (lognormal shoppers, Zipf items, 87 % of the items never bought) and
written as the split stage writes them; neighbours are drawn at random, because saving does not care. The reference for
the bipartite graph and co-purchase is the bare sparse product in the same run: read the arrays, RᵀR by SciPy, nothing
kept. Prints one JSON document; `--out` appends it as a line.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from results import record

from offline_jobs.co_bought import read_interactions
from offline_jobs.co_purchase import co_purchase
from offline_jobs.graphs import agreeing, load_hetero, save_hetero
from offline_jobs.knn import Knn
from training.dataset import TRAIN
from training.stage import peak_rss_kib

BLOCK = 2_048
"""Rows of RᵀR that the bare product makes at once."""


def make_split(path: Path, items: int, users: int, interactions: int, seed: int = 0) -> None:
    """Write `interactions.npz` as the split stage does."""
    rng = np.random.default_rng(seed)
    degree = rng.lognormal(1.6, 0.9, users)
    warm = max(items * 13 // 100, 1)
    popularity = 1 / (np.arange(warm) + 30) ** 0.8
    rows = rng.choice(items, warm, replace=False)
    np.savez(
        path,
        user_row=rng.choice(users, interactions, p=degree / degree.sum()).astype(np.int32),
        item_row=rows[rng.choice(warm, interactions, p=popularity / popularity.sum())].astype(np.int32),
        timestamp=np.sort(rng.integers(0, 10**9, interactions)),
        split=rng.choice(3, interactions, p=[0.8, 0.1, 0.1]).astype(np.int8),
    )


def some_neighbours(items: int, k: int, seed: int) -> Knn:
    """Random neighbours in the shape of a graph."""
    rng = np.random.default_rng(seed)
    neighbors = rng.integers(0, items, (items, k), dtype=np.int32)
    weights = -np.sort(-rng.random((items, k), dtype=np.float32), axis=1)
    return Knn(neighbors, weights, is_exact=True, recall=1.0)


def bare_product(path: Path, items: int) -> int:
    """Pairs of items that shoppers of split 0 have in common, a block of RᵀR at a time."""
    with np.load(path) as file:
        train = file["split"] == TRAIN
        user, item = file["user_row"][train], file["item_row"][train]
    R = sp.csr_matrix((np.ones(len(user), np.int32), (user, item)), shape=(int(user.max()) + 1, items))
    columns = R.T.tocsr()
    return sum((columns[start : start + BLOCK] @ R).nnz for start in range(0, items, BLOCK))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--interactions", type=int, default=170_000)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--out", type=Path, help="append the result to this file as a JSON line")
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = work()
        seconds[name] = round(time.perf_counter() - start, 3)
        return answer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items, k = arguments.items, arguments.k
        make_split(folder / "interactions.npz", items, arguments.users, arguments.interactions)
        bought = timed("read_and_merge", lambda: read_interactions(folder, items))
        timed(
            "save_user_item",
            lambda: np.savez(
                folder / "user_item.npz",
                user_row=bought.user_row,
                item_row=bought.item_row,
                timestamp=bought.timestamp,
                split=bought.split,
            ),
        )
        together = timed("co_purchase", lambda: co_purchase(bought, items, k=k, max_items_per_user=200))
        purchases_peak = peak_rss_kib() / 1024
        knn = [some_neighbours(items, k, seed) for seed in range(3)]
        # Random graphs agree on nothing: the second repeats half of the first, so that there is something to sort.
        knn[1].neighbors[:, ::2] = knn[0].neighbors[:, ::2]
        agreement = timed("agreement", lambda: agreeing(knn[0], knn[1]))
        x = np.zeros((items, 128), np.float32)
        relations = dict(zip(("text_knn", "image_knn", "fused_knn", "co_purchase"), [*knn, together], strict=True))
        timed(
            "save_relations",
            lambda: [graph.save(folder / f"{key}.npz") for key, graph in {**relations, "agreement": agreement}.items()],
        )
        timed("save_hetero", lambda: save_hetero(folder / "hetero.npz", arguments.users, x, bought, relations))
        stage_peak = peak_rss_kib() / 1024
        data = timed("load_hetero", lambda: load_hetero(folder / "hetero.npz"))
        pairs = timed("bare_product", lambda: bare_product(folder / "interactions.npz", items))
    ours = sum(seconds[key] for key in ("read_and_merge", "save_user_item", "co_purchase"))
    result = {
        "items": items,
        "users": arguments.users,
        "interactions": arguments.interactions,
        "edges": {"user_item": len(bought), "co_purchase": together.num_edges(), "hetero": data.num_edges},
        "pairs_in_the_product": pairs,
        "seconds": seconds,
        "purchases_s": round(ours, 3),
        "ratio_to_bare_product": round(ours / seconds["bare_product"], 3),
        "peak_mib": {"purchases": round(purchases_peak, 1), "all": round(stage_peak, 1)},
    }
    record("graphs", result, arguments.out)


if __name__ == "__main__":
    main()
