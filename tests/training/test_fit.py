"""Fitting finds planted clusters, resumes to the same weights, and never sees what is held out."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from service.neighborhood import Relation
from training.dataset import TEST, TRAIN, VALIDATION, Dataset, Interactions
from training.evaluate import About, EvaluateSettings, judge, page
from training.fit import fit_gat, fit_members
from training.fit_reranker import FirstStage, Lesson, RerankSettings, fit_reranker, rerank
from training.fit_settings import FitSettings
from training.linear import LinearSettings, linear_graph
from training.ranking_metrics import per_user, to_find
from training.reranker import Reranker
from training.tables import choose_decay, side_by_side, validation_recall


def linear(dataset: Dataset, known: Interactions) -> Relation:
    return linear_graph(known.matrix(), dataset.relations, LinearSettings(degree=20))


SETTINGS = FitSettings(width=15, max_epochs=8, batch_size=64, negatives=60, head_dim=4, heads=2, history_length=10)


def test_the_held_out_items_of_a_planted_cluster_are_found(dataset: Dataset) -> None:
    train, validation = (dataset.interactions.within([s]) for s in (TRAIN, VALIDATION))
    fit, curve = fit_gat(dataset, train, SETTINGS, linear(dataset, train), validation=validation)
    # 9 items of the cluster are left to each shopper, so a list of 20 that knows the cluster holds them all.
    assert max(curve.recall_at_20) > 0.95
    assert choose_decay(fit.tables(), train, validation, 10) >= 0.0


def test_members_side_by_side_answer_with_their_mean(dataset: Dataset, tmp_path: Path) -> None:
    train, validation = (dataset.interactions.within([s]) for s in (TRAIN, VALIDATION))
    two = SETTINGS.model_copy(update={"members": 2, "max_epochs": 3})
    tables, curve = fit_members(dataset, train, two, linear(dataset, train), validation=validation, checkpoint=tmp_path)
    assert tables.item_vectors.shape == (90, 2 * SETTINGS.width + 1)
    alone = [
        fit_gat(
            dataset,
            train,
            SETTINGS.model_copy(update={"seed": seed}),
            linear(dataset, train),
            validation=None,
            epochs=curve.best_epochs,
        )[0].tables()
        for seed in (0, 1000)
    ]
    np.testing.assert_array_equal(side_by_side(alone).item_vectors, tables.item_vectors)
    events = np.ones(90, np.float32)
    users = [t.history_vectors.T @ events for t in (*alone, tables)]
    whole = (tables.item_vectors @ users[2])[:, None]
    halves = np.stack([t.item_vectors[:, :-1] @ u[:-1] for t, u in zip(alone, users, strict=False)], 1)
    np.testing.assert_allclose(whole[:, 0], halves.sum(1) / 2**0.5, rtol=1e-4, atol=1e-3)


def test_cold_items_are_placed_by_content_alone(dataset: Dataset) -> None:
    cold = np.arange(dataset.content.shape[0]) % 15 == 0  # one item of each cluster
    train = dataset.interactions.within([TRAIN])
    train = dataclasses.replace(
        train, **{f: getattr(train, f)[~cold[train.item_row]] for f in ("user_row", "item_row", "timestamp", "split")}
    )
    fit, _ = fit_gat(dataset, train, SETTINGS, linear(dataset, train), validation=None, epochs=6)
    vectors = fit.tables().item_vectors[:, :-1]
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness[cold][:, ~cold].argmax(1)
    clusters = np.arange(len(cold)) // 15
    assert (clusters[~cold][nearest] == clusters[cold]).all()


def test_what_is_held_out_changes_nothing(dataset: Dataset) -> None:
    poisoned = dataclasses.replace(
        dataset.interactions, item_row=np.where(dataset.interactions.split > 0, 0, dataset.interactions.item_row)
    )
    tables = [
        fit_gat(dataset, i.within([TRAIN]), SETTINGS, linear(dataset, i.within([TRAIN])), validation=None, epochs=2)[
            0
        ].tables()
        for i in (dataset.interactions, poisoned)
    ]
    np.testing.assert_array_equal(tables[0].item_vectors, tables[1].item_vectors)
    np.testing.assert_array_equal(tables[0].popularity, tables[1].popularity)


def test_a_fit_taken_up_again_ends_with_the_same_weights(dataset: Dataset, tmp_path: Path) -> None:
    train, validation = (dataset.interactions.within([s]) for s in (TRAIN, VALIDATION))
    whole, whole_curve = fit_gat(dataset, train, SETTINGS, linear(dataset, train), validation=validation)

    class KilledError(Exception):
        pass

    def kill(done: int, most: int, curve: object) -> None:
        if done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit_gat(
            dataset, train, SETTINGS, linear(dataset, train), validation=validation, checkpoint=tmp_path, on_epoch=kill
        )
    resumed, curve = fit_gat(
        dataset, train, SETTINGS, linear(dataset, train), validation=validation, checkpoint=tmp_path
    )
    assert curve.recall_at_20 == whole_curve.recall_at_20
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0)


def test_the_reranker_learns_what_retrieval_cannot_know(dataset: Dataset) -> None:
    """Retrieval is blind to edges here; the labels follow one relation's edges exactly."""
    train, validation = (dataset.interactions.within([s]) for s in (TRAIN, VALIDATION))
    fit, _ = fit_gat(dataset, train, SETTINGS, linear(dataset, train), validation=None, epochs=2)
    tables = fit.tables()
    rng = np.random.default_rng(0)
    blind = dataclasses.replace(
        tables,
        item_vectors=np.c_[rng.normal(size=(90, 15)), np.zeros(90)].astype(np.float32),
        history_vectors=np.c_[rng.normal(size=(90, 15)), np.zeros(90)].astype(np.float32),
    )
    relations = tuple(dataset.relations.values())
    first = FirstStage.of(blind, relations, train, length=10)
    settings = RerankSettings(num_candidates=90, max_epochs=8, batch_size=16, learning_rate=0.01)
    model, curve = fit_reranker([Lesson(first, validation, train)], settings)
    assert curve.best_epochs > 0
    assert max(curve.recall_at_20) > curve.retrieval + 0.3

    relevant, users = to_find(
        dataset.interactions.within([TRAIN, VALIDATION]).matrix(), dataset.interactions.within([TEST]).matrix()
    )
    known = FirstStage.of(blind, relations, dataset.interactions.within([TRAIN, VALIDATION]), length=10)
    candidates = known.retrieve(users, k=90)
    before = per_user(candidates, relevant, [10])["recall@10"].mean()
    after = per_user(rerank(model, known, candidates), relevant, [10])["recall@10"].mean()
    assert after > before + 0.2


def test_a_reranker_that_gains_nothing_leaves_the_order_of_retrieval(dataset: Dataset) -> None:
    train = dataset.interactions.within([TRAIN])
    fit, _ = fit_gat(dataset, train, SETTINGS, linear(dataset, train), validation=None, epochs=1)
    first = FirstStage.of(fit.tables(), tuple(dataset.relations.values()), train, length=10)
    model, curve = fit_reranker(
        [Lesson(first, dataset.interactions.within([VALIDATION]), train)],
        RerankSettings(max_epochs=0, num_candidates=30),
    )
    candidates = first.retrieve(np.arange(10), k=30)
    assert curve.best_epochs == 0
    np.testing.assert_array_equal(rerank(model, first, candidates).rows, candidates.rows)


def test_recall_is_zero_where_nobody_can_be_judged(dataset: Dataset) -> None:
    train = dataset.interactions.within([TRAIN])
    fit, _ = fit_gat(dataset, train, SETTINGS, linear(dataset, train), validation=None, epochs=1)
    assert validation_recall(fit.tables(), train, dataset.interactions.within([]), 10) == 0.0


def test_the_model_is_judged_as_it_is_served_beside_simple_models(dataset: Dataset) -> None:
    known, test = (dataset.interactions.within(splits) for splits in ([TRAIN, VALIDATION], [TEST]))
    fit, _ = fit_gat(dataset, known, SETTINGS, linear(dataset, known), validation=None, epochs=3)
    first = FirstStage.of(fit.tables(), tuple(dataset.relations.values()), known, length=10)
    model = Reranker(num_relations=4).eval()
    settings = EvaluateSettings(ials_factors=8)
    about = About("data", "B", settings={"epochs": 3}, first_seconds=2.0, fit_seconds=5.0)
    evaluation, found = judge(first, model, known, test, settings, num_candidates=30, protocol="as served", about=about)
    assert [(one.fit_seconds, one.settings) for one, _ in found[:2]] == [(2.0, {"epochs": 3}), (5.0, {"epochs": 3})]
    assert evaluation.users == 150
    assert set(evaluation.baselines) == {"retrieval alone", "popularity", "ItemKNN", "iALS", "RP3beta", "EASE"}
    assert evaluation.metrics["recall@20"] > 0.95 > 0.5 > evaluation.baselines["popularity"]["recall@20"]
    assert evaluation.metrics["candidate_recall@30"] >= evaluation.metrics["recall@20"]
    results = [result for result, _ in found]
    for result in results:
        assert all(one.low <= one.mean <= one.high for one in result.metrics.values())
    text = page(evaluation, results)
    assert text.count("]") == text.count("[") == 4 * len(results)
    assert "Retrieval finds" in text
