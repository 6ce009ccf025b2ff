"""A ladder runs each model in a process of its own, goes on where it stopped, and keeps its data apart."""

import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from service.errors import StageError
from training import baselines
from training.dataset import TEST, TRAIN, VALIDATION, Dataset
from training.evaluation.judge import Fitted
from training.evaluation.ladder import JUDGED_ON, Rung, Split, fit_and_judge, run_ladder
from training.evaluation.result import load_per_user, result_path


def fit_popularity(train: sp.csr_matrix, validation: sp.csr_matrix | None, seed: int) -> Fitted:
    """Says which process it ran in."""
    counts = np.asarray(train.sum(0)).ravel()
    return Fitted(baselines.popularity(counts), parameters=len(counts), settings={"process": os.getpid()})


def fit_noise(train: sp.csr_matrix, validation: sp.csr_matrix | None, seed: int, *, mebibytes: int) -> Fitted:
    """Random scores by seed; holds so much memory for a moment."""
    assert validation is not None
    np.ones(mebibytes * 2**17).sum()
    time.sleep(0.05)
    table = np.random.default_rng(seed).random(train.shape).astype(np.float32)
    return Fitted(lambda rows: table[rows])


def fit_nothing(train: sp.csr_matrix, validation: sp.csr_matrix | None, seed: int) -> Fitted:
    raise ArithmeticError("diverged")


@pytest.fixture
def split(dataset: Dataset) -> Split:
    train, validation, test = (dataset.interactions.within([part]).matrix() for part in (TRAIN, VALIDATION, TEST))
    return Split("planted", "A", train, test, validation, dataset.content)


def test_each_rung_has_a_process_and_the_ladder_goes_on(split: Split, tmp_path: Path) -> None:
    popularity = Rung("popularity", "Popularity", fit_popularity, seeded=False)
    noise = Rung("noise", "Noise", partial(fit_noise, mebibytes=400))
    for seed in (0, 1):  # judged before, in this process
        fit_and_judge(noise, seed, split, tmp_path)
    before = result_path(tmp_path, "noise", 0).stat().st_mtime_ns
    with pytest.raises(StageError, match=r"not judged: broken with seed 0 \(exit status 1\)\."):
        run_ladder(
            [Rung("broken", "Broken", fit_nothing, seeded=False), popularity, noise], split, tmp_path, seeds=(0, 1)
        )
    results = run_ladder([popularity, noise], split, tmp_path, seeds=(0, 1))
    assert [(one.model, one.seed) for one in results] == [("noise", 0), ("noise", 1), ("popularity", 0)]
    assert result_path(tmp_path, "noise", 0).stat().st_mtime_ns == before
    assert results[2].settings["process"] != os.getpid()
    assert results[2].parameters == 90
    assert results[1].peak_rss_mib > results[2].peak_rss_mib + 300
    assert results[1].fit_seconds >= 0.05
    assert results[0].metrics != results[1].metrics
    np.testing.assert_array_equal(load_per_user(tmp_path, results[0]).users, np.arange(150))
    assert "intra_list_diversity@20" in results[0].beyond


def test_a_folder_holds_results_on_one_split(split: Split, tmp_path: Path) -> None:
    run_ladder([], split, tmp_path)
    assert run_ladder([], split, tmp_path) == []
    assert split.validation is not None
    other = Split("planted", "A", split.known, split.validation)
    with pytest.raises(StageError, match=JUDGED_ON):
        run_ladder([], other, tmp_path)
