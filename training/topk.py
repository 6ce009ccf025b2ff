"""Top items of users, and scores of given pairs, by the model of a run: what the service would answer, as a table.

The same two stages as online, on the run's tables instead of the bundle: the exact best candidates by inner product,
then the re-ranker's order. Users of whom nothing is known get the most popular items.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.progress import track

from service.errors import DataError, InputError
from training.dataset import STORED, load_interactions, load_relation
from training.fit_reranker import FirstStage, rerank_scores
from training.ranking_metrics import Ranking
from training.reranker import Reranker
from training.run import work_of
from training.stage import require
from training.stages import load_reranker, read_recipe
from training.tables import load_tables
from training.threads import torch_threads

BLOCK = 2048
"""Users at once."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RunModel:
    """What a run has published, ready to score."""

    first: FirstStage
    reranker: Reranker
    num_candidates: int
    user_ids: pl.Series
    item_ids: pl.Series

    @classmethod
    def of(cls, run: Path) -> RunModel:
        """Open a run. Raises StageError where it is not finished."""
        work = work_of(run)
        recipe = read_recipe(work)
        tables = load_tables(require(work, "refit"), recipe.decay_per_day)
        graphs = require(work, "graphs")
        known = load_interactions(work).within(recipe.published())
        ids = [
            pl.read_parquet(require(work, "ingest") / f"{name}s.parquet", columns=[f"{name}_id"])[f"{name}_id"]
            for name in ("user", "item")
        ]
        stored = tuple(load_relation(graphs / f"{name}.npz") for name in STORED)
        first = FirstStage.of(tables, stored, known, length=recipe.fit.history_length)
        return cls(first, load_reranker(work), recipe.rerank.num_candidates, *ids)

    def top(self, users: Rows, k: int, allowed: npt.NDArray[np.bool_] | None) -> tuple[Rows, npt.NDArray[np.float32]]:
        """Item rows and scores, both (m, k), of user rows (m,), best first; row -1 where fewer could be ranked.

        A user row of -1 is someone unknown. `allowed` (items,) restricts what is ranked.
        """
        first = self.first
        known = users >= 0
        known[known] = first.history.mask[users[known]].any(1)
        rows, scores = np.full((len(users), k), -1, np.int64), np.full((len(users), k), -np.inf, np.float32)
        if known.any():
            candidates = first.retrieve(users[known], k=max(k, self.num_candidates), among=allowed)
            new = rerank_scores(self.reranker, first, candidates)
            order = np.argsort(-new, axis=1, kind="stable")[:, :k]
            rows[known], scores[known] = (np.take_along_axis(table, order, 1) for table in (candidates.rows, new))
        popularity = first.tables.popularity if allowed is None else np.where(allowed, first.tables.popularity, -np.inf)
        popular = np.argsort(-popularity, kind="stable")[:k]
        popular = popular[np.isfinite(popularity[popular])]
        rows[~known, : len(popular)] = popular
        scores[~known, : len(popular)] = popularity[popular]
        return rows, scores


def run_topk(run: Path, users: str, items: Path | None, k: int, out: Path) -> None:
    """Write user_id, item_id, rank (from 1), score (larger is better) of the best k items of each user as Parquet.

    `users` is a file with ids, or `all`. What a user has in the data that the model was fitted on is left out.
    """
    if k < 1:
        raise InputError(f"{k} items a user", where="--k", todo="Use 1 or more")
    model = RunModel.of(run)
    asked = model.user_ids if users == "all" else read_ids(Path(users), "user_id")
    allowed = None if items is None else _allowed(model, items)
    rows = _rows(asked, model.user_ids)
    parts = []
    for part in _blocks(len(rows), "top items"):
        with torch_threads(1):
            best, scores = model.top(rows[part], k, allowed)
        user, place = np.nonzero(best >= 0)
        parts.append(
            pl.DataFrame(
                {
                    "user_id": asked[part].gather(user),
                    "item_id": model.item_ids.gather(best[user, place]),
                    "rank": (place + 1).astype(np.int32),
                    "score": scores[user, place],
                }
            )
        )
    _write(pl.concat(parts) if parts else pl.DataFrame(), out)


def run_score(run: Path, pairs: Path, out: Path) -> None:
    """Write the pairs of a file (user_id, item_id) with their score as Parquet, in the file's order.

    A user's items are scored together, as a list to re-rank. Users of whom nothing is known score by popularity; the
    score of an unknown item is null.
    """
    model = RunModel.of(run)
    table = _read(pairs, ("user_id", "item_id"))
    user, item = _rows(table["user_id"], model.user_ids), _rows(table["item_id"], model.item_ids)
    scores = np.full(len(table), np.nan, np.float32)
    known = np.flatnonzero((user >= 0) & (item >= 0))
    known = known[model.first.history.mask[user[known]].any(1)]
    order = known[np.argsort(user[known], kind="stable")]
    starts = np.flatnonzero(np.diff(user[order], prepend=-1))
    for group in track(np.split(order, starts[1:]), "scores", console=Console(stderr=True), transient=True):
        if len(group):
            ranking = Ranking(user[group[:1]], item[group][None])
            scores[group] = rerank_scores(model.reranker, model.first, ranking)[0]
    unknown = np.isnan(scores) & (item >= 0)
    scores[unknown] = model.first.tables.popularity[item[unknown]]
    _write(table.with_columns(pl.Series("score", scores).fill_nan(None)), out)


def read_ids(path: Path, column: str) -> pl.Series:
    """Ids of a file: `column` of a .parquet or .csv, or else one id a line. Repeats are left out."""
    if path.suffix in (".parquet", ".csv"):
        return _read(path, (column,))[column].unique(maintain_order=True)
    if not path.is_file():
        raise DataError("no such file", where=str(path), todo=f"A file with {column}s, or `all`")
    lines = [line.strip() for line in path.read_text().splitlines()]
    return pl.Series(column, [line for line in lines if line], dtype=pl.String).unique(maintain_order=True)


def _read(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    if not path.is_file():
        raise DataError("no such file", where=str(path), todo="Check the path")
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"cannot be read ({error})", where=str(path), todo="A .csv or .parquet file") from error
    if missing := [name for name in columns if name not in table.columns]:
        raise DataError(
            f"no column {missing[0]}; found {', '.join(table.columns)}",
            where=str(path),
            todo=f"It needs {' and '.join(columns)}",
        )
    return table.select(pl.col(name).cast(pl.String) for name in columns)


def _allowed(model: RunModel, items: Path) -> npt.NDArray[np.bool_]:
    rows = _rows(read_ids(items, "item_id"), model.item_ids)
    allowed = np.zeros(len(model.item_ids), bool)
    allowed[rows[rows >= 0]] = True
    if not allowed.any():
        raise DataError("the model knows none of these items", where=str(items), todo="Check the ids")
    return allowed


def _rows(ids: pl.Series, known: pl.Series) -> Rows:
    """The row of each id among `known`, -1 where it is not there."""
    table = pl.DataFrame({"id": known}).with_row_index("row")
    found = pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")["row"]
    return found.cast(pl.Int64).fill_null(-1).to_numpy().copy()


def _blocks(count: int, title: str) -> Iterator[slice]:
    starts = range(0, count, BLOCK)
    for start in track(starts, title, console=Console(stderr=True), transient=True):
        yield slice(start, start + BLOCK)


def _write(table: pl.DataFrame, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}")
    table.write_parquet(temporary)
    os.replace(temporary, out)
