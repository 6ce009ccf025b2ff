"""A ladder of models: each fitted and judged in a process of its own, so that memory and a crash are its own.

    rungs = [Rung("ease", "EASE", partial(fit_ease, ridge=300.0), seeded=False), …]
    results = run_ladder(rungs, train, test, run=Path("var/ladder-baby"), dataset="amazon-baby", protocol="A")

What is judged already is skipped, so a ladder that was interrupted goes on where it was, and a new rung is added by
running it again. Processes are spawned: a script calls this under `if __name__ == "__main__"`, and a `fit` is a
function of a module, or a `functools.partial` of one.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.errors import StageError
from training.evaluation.judge import Fitted, judge_model
from training.evaluation.result import ModelResult, Protocol, load_results, result_path, save_result
from training.files import write_whole
from training.ranking_metrics import Scores

JUDGED_ON = "judged_on.json"

Fit = Callable[[sp.csr_matrix, sp.csr_matrix | None, int], Fitted | Scores]
"""Train (users, items), validation of the same shape where there is one, seed -> the fitted model."""


@dataclass(frozen=True)
class Rung:
    """One model of a ladder."""

    model: str
    """As `ModelResult.model`."""
    title: str
    fit: Fit
    seeded: bool = True
    """Whether its fit depends on the seed; where not, the first seed alone is run."""


class JudgedOn(BaseModel):
    """What every result of a run folder was judged on."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    dataset: str
    protocol: Protocol
    known: str
    """sha256 of what was fitted on and masked."""
    held_out: str
    """sha256 of what was to be found."""


@dataclass(frozen=True)
class Split:
    """What each rung is fitted and judged on: matrices (users, items), and content (items, c) for diversity."""

    dataset: str
    protocol: Protocol
    known: sp.csr_matrix
    held_out: sp.csr_matrix
    validation: sp.csr_matrix | None = None
    content: npt.NDArray[np.float32] | None = None


def run_ladder(rungs: Sequence[Rung], split: Split, run: Path, *, seeds: Sequence[int] = (0,)) -> list[ModelResult]:
    """Fit and judge every rung with every seed that `<run>/results` lacks; returns all results of the run.

    A rung that fails leaves the others alone; StageError names it in the end. Raises StageError too where the folder
    holds results on other data.
    """
    _claim(run, split)
    todo = [(rung, seed) for rung in rungs for seed in (seeds if rung.seeded else seeds[:1])]
    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=not os.isatty(2)) as progress:
        task = progress.add_task("ladder", total=len(todo))
        for rung, seed in todo:
            progress.update(task, description=f"{rung.model}, seed {seed}")
            if not result_path(run, rung.model, seed).exists():
                status = _in_a_process(rung, seed, split, run)
                if status != 0:
                    failed.append(f"{rung.model} with seed {seed} (exit status {status})")
            progress.advance(task)
    if failed:
        raise StageError(
            f"not judged: {', '.join(failed)}",
            where=str(run),
            todo="Its traceback stands above (none where it ran out of memory); run the ladder again to go on",
        )
    return load_results(run)


def fit_and_judge(rung: Rung, seed: int, split: Split, run: Path) -> None:
    """Fit one rung with one seed in this process, judge it and save the result."""
    start = time.perf_counter()
    found = rung.fit(split.known, split.validation, seed)
    seconds = time.perf_counter() - start
    fitted = replace(found if isinstance(found, Fitted) else Fitted(found), seconds=seconds)
    result, per_user = judge_model(
        rung.model,
        rung.title,
        fitted,
        split.known,
        split.held_out,
        dataset=split.dataset,
        protocol=split.protocol,
        seed=seed,
        content=split.content,
    )
    save_result(run, result, per_user)


def _in_a_process(rung: Rung, seed: int, split: Split, run: Path) -> int:
    process = multiprocessing.get_context("spawn").Process(target=fit_and_judge, args=(rung, seed, split, run))
    process.start()
    try:
        process.join()
    finally:
        if process.is_alive():  # Ctrl-C
            process.terminate()
            process.join()
    assert process.exitcode is not None
    return process.exitcode


def _claim(run: Path, split: Split) -> None:
    """Write down what this run is judged on, or see that it is the same."""
    claim = JudgedOn(
        dataset=split.dataset,
        protocol=split.protocol,
        known=_digest(split.known),
        held_out=_digest(split.held_out),
    )
    path = run / JUDGED_ON
    if path.exists():
        if JudgedOn.model_validate_json(path.read_bytes()) != claim:
            raise StageError(
                "the folder holds results on other data or under another protocol",
                where=str(path),
                todo="Use another folder, or delete this one",
            )
        return
    write_whole(path, claim.model_dump_json(indent=1))


def _digest(matrix: sp.csr_matrix) -> str:
    digest = hashlib.sha256(np.asarray(matrix.shape, np.int64).tobytes())
    for part in (matrix.indptr, matrix.indices):
        digest.update(np.asarray(part, np.int64).tobytes())
    return digest.hexdigest()
