"""Every learned baseline, with every loss, finds planted clusters; seeds, stopping and taking up again hold exactly."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from service.errors import DataError
from training.baselines.embedding_fit import EmbeddingSettings, FittedEmbeddings, best_epoch
from training.baselines.frozen_graph import FrozenGraphSettings, fit_frozen_graph
from training.baselines.lightgcn import LightGcnSettings, fit_lightgcn
from training.baselines.mf import fit_mf
from training.dataset import TEST, TRAIN, VALIDATION, Dataset
from training.evaluation.result import Epoch
from training.ranking_metrics import per_user, rank_all

Fit = Callable[..., FittedEmbeddings]
MODELS = ("mf", "lightgcn", "frozen_graph")
LOSSES = ("bpr", "softmax", "slatk")


def fit(dataset: Dataset, model: str, loss: str, **more: object) -> FittedEmbeddings:
    """One fit of a planted world; `more` goes to settings where it is a field of them, else to the fit."""
    train, validation = (dataset.interactions.within([part]).matrix() for part in (TRAIN, VALIDATION))
    usual = {"loss": loss, "dim": 16, "learning_rate": 0.03, "batch_size": 256, "negatives": 60, "max_epochs": 30}
    fields = FrozenGraphSettings.model_fields
    values = {**usual, **{name: value for name, value in more.items() if name in fields}}
    rest = {"validation": validation, **{name: value for name, value in more.items() if name not in fields}}
    if model == "mf":
        return fit_mf(train, EmbeddingSettings(**values), **rest)  # type: ignore[arg-type]
    if model == "lightgcn":
        return fit_lightgcn(train, LightGcnSettings(**values), **rest)  # type: ignore[arg-type]
    return fit_frozen_graph(train, dataset.relations, FrozenGraphSettings(**values), **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_held_out_items_come_from_the_shoppers_own_cluster(dataset: Dataset, model: str, loss: str) -> None:
    fitted = fit(dataset, model, loss)
    seen = dataset.interactions.within([TRAIN, VALIDATION]).matrix()
    relevant = dataset.interactions.within([TEST]).matrix()
    users = np.flatnonzero(np.diff(relevant.indptr))
    # Eight items of his cluster of 15 are not seen, one of them is relevant; by chance 20 of 83 items hold it in 24 %.
    found = per_user(rank_all(fitted, users, seen, k=20), relevant, [20])["recall@20"].mean()
    assert found > 0.95


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_vectors_and_another_one_others(dataset: Dataset, model: str, loss: str) -> None:
    first, again, other = (fit(dataset, model, loss, max_epochs=3, seed=seed) for seed in (1, 1, 2))
    rows = np.arange(20)
    np.testing.assert_array_equal(first(rows), again(rows))
    assert not np.array_equal(first(rows), other(rows))


@pytest.mark.parametrize(("model", "loss"), [("mf", "bpr"), ("lightgcn", "slatk"), ("frozen_graph", "softmax")])
def test_an_interrupted_fit_goes_on_bit_for_bit(dataset: Dataset, tmp_path: Path, model: str, loss: str) -> None:
    class Interrupted(Exception):  # noqa: N818 - stands for Ctrl-C
        pass

    def interrupt(done: int, most: int, curve: Sequence[Epoch]) -> None:
        if done == 3:
            raise Interrupted

    whole = fit(dataset, model, loss, max_epochs=7)
    with pytest.raises(Interrupted):
        fit(dataset, model, loss, max_epochs=7, checkpoint=tmp_path, on_epoch=interrupt)
    done: list[int] = []
    resumed = fit(
        dataset,
        model,
        loss,
        max_epochs=7,
        checkpoint=tmp_path,
        on_epoch=lambda number, most, curve: done.append(number),
    )
    assert done == [4, 5, 6, 7]
    np.testing.assert_array_equal(resumed.users, whole.users)
    np.testing.assert_array_equal(resumed.items, whole.items)
    assert [one.loss for one in resumed.curve] == [one.loss for one in whole.curve]


def test_fitting_stops_early_and_keeps_the_best_epoch(dataset: Dataset) -> None:
    fitted = fit(dataset, "mf", "bpr", max_epochs=200, evaluate_every=2, patience=3)
    looks = [one for one in fitted.curve if one.validation_recall_at_20 is not None]
    assert len(fitted.curve) < 200
    assert [one.epoch for one in looks] == list(range(2, len(fitted.curve) + 1, 2))
    assert fitted.epochs == best_epoch(fitted.curve) == len(fitted.curve) - 2 * 3
    kept = fit(dataset, "mf", "bpr", validation=None, epochs=fitted.epochs)
    np.testing.assert_array_equal(kept.items, fitted.items)


def test_without_validation_so_many_epochs_are_run_as_are_told(dataset: Dataset) -> None:
    fitted = fit(dataset, "lightgcn", "softmax", validation=None, epochs=4)
    assert fitted.epochs == len(fitted.curve) == 4
    assert all(one.validation_recall_at_20 is None for one in fitted.curve)
    assert [one.loss for one in fitted.curve] == sorted((one.loss or 0 for one in fitted.curve), reverse=True)


def test_the_first_of_equal_epochs_is_the_best() -> None:
    curve = [Epoch(epoch=i + 1, validation_recall_at_20=r, seconds=0) for i, r in enumerate([0.1, 0.3, None, 0.3, 0.2])]
    assert best_epoch(curve) == 2


def test_a_penalty_makes_the_vectors_shorter(dataset: Dataset) -> None:
    free, held = (fit(dataset, "lightgcn", "bpr", max_epochs=5, regularization=weight) for weight in (0.0, 1.0))
    assert np.linalg.norm(held.items) < 0.8 * np.linalg.norm(free.items)


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(DataError, match="no interaction"):
        fit_mf(sp.csr_matrix((3, 4), dtype=np.float32), EmbeddingSettings())
