"""What is known of one fitted model on one split, as two files of a run folder.

    <run>/results/<model>-<seed>.json   ModelResult
    <run>/results/<model>-<seed>.npz    users int32 (m,) ascending; recall_at_10 ... float32 (m,)

A run folder holds results of one dataset under one protocol, so that any two of them can be compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import DataError
from training.files import write_whole

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
"""What is kept for each shopper."""

Protocol = Literal["A", "B", "C"]
"""A: random, a share of each user's items. B: global time. C: items without any training interaction."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Estimate(_Frozen):
    """A mean over shoppers and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class Epoch(_Frozen):
    """What one epoch of a fit showed."""

    epoch: int = Field(ge=0)
    """Counted from 1; 0 is the model before it learned."""
    loss: float | None = None
    validation_recall_at_20: float | None = None
    seconds: float = Field(ge=0)


class ModelResult(_Frozen):
    """Quality, time and memory of one model, fitted with one seed and judged on one split."""

    model: str = Field(pattern=r"^[a-z0-9][a-z0-9+._-]*$")
    """Name in files and code: `popularity`, `item-knn`, `lightgcn-softmax`, `served`."""
    title: str
    """Name for people."""
    dataset: str
    protocol: Protocol
    seed: int = Field(ge=0)
    users: int = Field(gt=0)
    """Shoppers judged."""
    metrics: dict[str, Estimate]
    """`recall@20`, `ndcg@20`, ...; `candidate_recall@200` where a first stage chose the candidates."""
    slices: dict[str, dict[str, Estimate]] = {}
    """`items/head`, `items/mid`, `items/tail`, `items/cold`, `users/1-4`, ...; under protocol C `candidates/cold` and
    `candidates/warm` too -> the same metrics."""
    beyond: dict[str, float] = {}
    """`coverage@20`, `gini@20`, `popularity_lift@20`; `intra_list_diversity@20` where items have content."""
    fit_seconds: float = Field(ge=0)
    rank_seconds: float = Field(ge=0)
    """Seconds to score and rank every judged shopper."""
    peak_rss_mib: float = Field(ge=0)
    """Largest resident memory of the process that fitted and ranked."""
    parameters: int = Field(ge=0)
    """Numbers that the fit chose."""
    curve: tuple[Epoch, ...] = ()
    """Empty where nothing is learned by epochs."""
    settings: dict[str, object] = {}
    """What the model was fitted with."""


@dataclass(frozen=True)
class PerUser:
    """The metrics of each judged shopper: what paired comparisons are made of."""

    users: npt.NDArray[np.int32]
    """(m,) user rows, ascending."""
    values: Mapping[str, npt.NDArray[np.float32]]
    """Metric of METRICS -> (m,)."""


def save_result(run: Path, result: ModelResult, per_user: PerUser) -> Path:
    """Write both files, each moved into place whole, the JSON last: where it is, the result is complete."""
    path = result_path(run, result.model, result.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.stem}-{os.getpid()}"
    arrays = {name.replace("@", "_at_"): values.astype(np.float32) for name, values in per_user.values.items()}
    with temporary.open("wb") as file:
        np.savez(file, users=per_user.users.astype(np.int32), **arrays)  # type: ignore[arg-type]
    os.replace(temporary, path.with_name(f"{path.stem}.npz"))
    write_whole(path, result.model_dump_json(indent=1))
    return path


def result_path(run: Path, model: str, seed: int) -> Path:
    """Where the result of one model and seed is written."""
    return run / "results" / f"{model}-{seed}.json"


def load_results(run: Path) -> list[ModelResult]:
    """Every result of a run, by model and seed; none where nothing was judged. Raises DataError on a foreign file."""
    found = []
    for path in sorted((run / "results").glob("*.json")):
        try:
            found.append(ModelResult.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            todo = "Delete the file and judge that model again"
            raise DataError(f"not a model's result: {error.errors()[0]['msg']}", where=str(path), todo=todo) from error
    return sorted(found, key=lambda result: (result.model, result.seed))


def load_per_user(run: Path, result: ModelResult) -> PerUser:
    """The metrics of each shopper that stand beside a result."""
    path = result_path(run, result.model, result.seed)
    with np.load(path.with_name(f"{path.stem}.npz"), allow_pickle=False) as arrays:
        values = {name.replace("_at_", "@"): arrays[name] for name in arrays.files if name != "users"}
        return PerUser(arrays["users"], values)
