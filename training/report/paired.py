"""Differences shopper by shopper, for every model whose metrics of each shopper stand beside its result."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from service.errors import DataError
from training.evaluation.result import ModelResult, PerUser, load_per_user, result_path
from training.evaluation.significance import Comparison, compare, mean_of_seeds

TODO = "Judge that model again"


def paired_differences(
    run: Path, models: Mapping[str, Sequence[ModelResult]], rival: str, metric: str
) -> tuple[dict[str, Comparison], list[str]]:
    """Model -> its difference to `rival`, averaged over seeds; and the models that cannot be paired with it.

    Nothing is paired where the rival itself lacks its shoppers. Raises DataError on a broken file beside a result.
    """
    each = {name: of_shoppers for name, seeds in models.items() if (of_shoppers := _over_seeds(run, seeds, metric))}
    base = each.get(rival)
    alike = {
        name: of_shoppers
        for name, of_shoppers in each.items()
        if base is not None and np.array_equal(of_shoppers.users, base.users)
    }
    left_out = [name for name in models if name not in alike and name != rival]
    found = compare(alike, rival, metrics=(metric,)) if base is not None else []
    return {one.model: one for one in found}, left_out


def _over_seeds(run: Path, seeds: Sequence[ModelResult], metric: str) -> PerUser | None:
    """Metrics of each shopper over all seeds; None where a seed lacks them or was judged on other shoppers."""
    read = [_read(run, result) for result in seeds]
    told = [one for one in read if one is not None and metric in one.values]
    if len(told) < len(seeds) or any(not np.array_equal(one.users, told[0].users) for one in told):
        return None
    return mean_of_seeds(told)


def _read(run: Path, result: ModelResult) -> PerUser | None:
    path = result_path(run, result.model, result.seed)
    path = path.with_name(f"{path.stem}.npz")
    if not path.exists():
        return None
    try:
        found = load_per_user(run, result)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"not the metrics of each shopper: {error}", where=str(path), todo="Judge that model again"
        ) from error
    if any(len(values) != len(found.users) for values in found.values.values()):
        raise DataError("not as many figures as shoppers", where=str(path), todo="Judge that model again")
    return found
