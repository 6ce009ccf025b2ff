"""Items never sold in what a run was fitted on, ranked among themselves for the customers who bought one afterwards.

    python -m benchmarks.models.cold_items --run RUN --bought DAY/transactions.parquet

RUN is fitted on a folder that ends before that day: `plotpointe-train fit --data BEFORE --preset fashion-week ...`.
What is ranked is what `plotpointe-train topk --run RUN --users ... --items COLD` answers: the history of each known
customer against content alone, with the re-ranker and without. Random's recall@20 among n items is 20 / n.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from benchmarks.offline.results import record
from training.evaluation.bootstrap import estimates
from training.ranking_metrics import Ranking, per_user
from training.topk import RunModel

K = 20


def measure(run: Path, bought: Path, user: str, item: str) -> dict[str, object]:
    """Recall and NDCG at 20 of both stages, each with its interval over customers, and how many times random's."""
    model = RunModel.of(run)
    known = model.first.seen
    cold = np.asarray(known.sum(0)).ravel() == 0
    relevant = pairs(pl.read_parquet(bought, columns=[user, item]), user, item, model)
    relevant = (relevant @ sp.diags(cold.astype(np.float32))).tocsr()
    relevant.eliminate_zeros()
    customers = np.flatnonzero((np.diff(relevant.indptr) > 0) & (np.diff(known.indptr) > 0))
    served, _ = model.top(customers, K, cold)
    ways = {
        "served": Ranking(customers, served),
        "retrieval": model.first.retrieve(customers, k=K, among=cold),
    }
    random = min(1.0, K / int(cold.sum()))
    figures: dict[str, object] = {
        "items": len(cold),
        "cold_items": int(cold.sum()),
        "customers": len(customers),
        "random_recall@20": round(random, 5),
    }
    for name, ranking in ways.items():
        for metric, one in estimates(per_user(ranking, relevant, [K])).items():
            figures[f"{name}_{metric}"] = [round(value, 5) for value in (one.mean, one.low, one.high)]
            if metric == f"recall@{K}":
                figures[f"{name}_times_random"] = [round(value / random, 1) for value in (one.mean, one.low, one.high)]
    return figures


def pairs(table: pl.DataFrame, user: str, item: str, model: RunModel) -> sp.csr_matrix:
    """What was bought, as a binary matrix over the run's users and items; whoever and whatever it lacks is left out."""
    named = table.select(user_id=pl.col(user).cast(pl.String), item_id=pl.col(item).cast(pl.String)).unique()
    for ids, name in ((model.user_ids, "user"), (model.item_ids, "item")):
        rows = pl.DataFrame({f"{name}_id": ids}).with_row_index(name)
        named = named.join(rows, on=f"{name}_id", how="inner")
    users, items = (named[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    return sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), model.first.seen.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="Folder that `fit` made")
    parser.add_argument("--bought", type=Path, required=True, help="Parquet of what was bought afterwards")
    parser.add_argument("--user-column", default="customer_id")
    parser.add_argument("--item-column", default="article_id")
    parser.add_argument("--out", type=Path, help="Append the figures to this file")
    given = parser.parse_args()
    figures = measure(given.run, given.bought, given.user_column, given.item_column)
    record("cold-items", figures, given.out)


if __name__ == "__main__":
    main()
