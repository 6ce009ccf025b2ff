"""The judge on worlds whose right answer is known."""

import numpy as np
import pytest
import scipy.sparse as sp

from service.errors import DataError
from training.baselines import item_knn, popularity
from training.dataset import TEST, TRAIN, Dataset
from training.evaluation.judge import Fitted, judge_model
from training.evaluation.protocols import cold_start
from training.evaluation.result import METRICS, Epoch
from training.ranking_metrics import Ranking, rank_all, to_find


def parts(dataset: Dataset) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    train, test = (dataset.interactions.within([split]).matrix() for split in (TRAIN, TEST))
    return train, test


def test_a_model_that_knows_the_clusters_beats_popularity_everywhere(dataset: Dataset) -> None:
    train, test = parts(dataset)
    fitted = Fitted(item_knn(train), parameters=7, curve=(Epoch(epoch=1, seconds=2.0),), settings={"k": 5}, seconds=3.0)
    knn, per_user = judge_model(
        "item-knn", "ItemKNN", fitted, train, test, dataset="planted", protocol="A", content=dataset.content
    )
    popular, _ = judge_model(
        "popularity", "Popularity", popularity(np.asarray(train.sum(0)).ravel()), train, test,
        dataset="planted", protocol="A", content=dataset.content,
    )  # fmt: skip
    assert knn.users == len(per_user.users) == 150
    assert set(per_user.values) == set(METRICS) == set(knn.metrics)
    for metric, estimate in knn.metrics.items():
        assert estimate.low > popular.metrics[metric].high
        assert estimate.mean == pytest.approx(per_user.values[metric].mean(), abs=1e-6)
    assert knn.metrics["recall@20"].mean > 0.95
    for name, metrics in knn.slices.items():
        assert metrics["ndcg@20"].low > popular.slices[name]["ndcg@20"].high, name
    assert {"items/head", "items/mid", "items/tail", "users/5-9"} == set(knn.slices)
    assert knn.beyond["coverage@20"] == 1.0 > popular.beyond["coverage@20"]
    assert knn.beyond["gini@20"] < popular.beyond["gini@20"]
    assert popular.beyond["popularity_lift@20"] > 1.1 > knn.beyond["popularity_lift@20"]
    # Nine of ItemKNN's twenty are of the shopper's cluster; a list of what is popular is of all clusters.
    assert knn.beyond["intra_list_diversity@20"] < popular.beyond["intra_list_diversity@20"] - 0.05
    assert (knn.parameters, knn.fit_seconds, knn.settings, len(knn.curve)) == (7, 3.0, {"k": 5}, 1)
    assert knn.peak_rss_mib > 10


def test_the_same_judgement_twice_is_the_same(dataset: Dataset) -> None:
    train, test = parts(dataset)
    one, two = (
        judge_model("k", "K", item_knn(train), train, test, dataset="d", protocol="A", seed=3)[0] for _ in range(2)
    )
    timed = {"rank_seconds", "peak_rss_mib"}
    assert one.model_dump(exclude=timed) == two.model_dump(exclude=timed)


def test_two_stages_are_judged_as_served(dataset: Dataset) -> None:
    """A perfect re-ranker finds what retrieval found, and nothing that retrieval missed."""
    train, test = parts(dataset)
    relevant, users = to_find(train, test)
    noise = np.random.default_rng(0).random(train.shape).astype(np.float32)
    retrieved = rank_all(lambda rows: noise[rows], users, train, k=30)
    wanted = np.asarray(relevant[users[:, None], np.maximum(retrieved.rows, 0)].todense()) > 0
    order = np.argsort(~wanted, axis=1, kind="stable")
    served = Ranking(users, np.take_along_axis(retrieved.rows, order, 1))
    result, _ = judge_model("served", "Served", served, train, test, dataset="d", protocol="A", retrieved=retrieved)
    found = result.metrics["candidate_recall@30"].mean
    assert 0.2 < found < 0.6
    assert result.metrics["recall@20"].mean == found
    # Shoppers in another order, and more of them, are the same judgement.
    turned = Ranking(served.users[::-1], served.rows[::-1])
    again, _ = judge_model("served", "Served", turned, train, test[:, :], dataset="d", protocol="A")
    assert again.metrics["ndcg@20"] == result.metrics["ndcg@20"]


def test_cold_and_warm_items_are_judged_apart(dataset: Dataset) -> None:
    """Content knows the cluster of an item that nobody bought; to ItemKNN such items are all alike."""
    interactions = cold_start(dataset.interactions, share=0.2, seed=1)
    train, test = (interactions.within([split]).matrix() for split in (TRAIN, TEST))
    likeness = dataset.content @ dataset.content.T
    content, _ = judge_model(
        "content", "Content", lambda rows: (train[rows] @ likeness).astype(np.float32), train, test,
        dataset="planted", protocol="C",
    )  # fmt: skip
    knn, _ = judge_model("item-knn", "ItemKNN", item_knn(train), train, test, dataset="planted", protocol="C")
    for part in ("candidates/cold", "candidates/warm", "items/cold"):
        assert set(content.slices[part]) == set(METRICS)
    assert content.slices["candidates/cold"]["ndcg@10"].mean > 0.6
    assert content.slices["candidates/cold"]["recall@10"].mean > content.slices["items/cold"]["recall@10"].mean
    assert knn.slices["candidates/cold"]["ndcg@10"].mean < 0.4
    assert knn.slices["items/cold"]["recall@20"].mean < 0.2
    assert knn.slices["candidates/warm"]["recall@20"].mean > 0.9


def test_leaks_and_empty_judgements_are_refused(dataset: Dataset) -> None:
    train, test = parts(dataset)
    scores = popularity(np.asarray(train.sum(0)).ravel())

    def judge(ranks: object, known: sp.csr_matrix = train, protocol: str = "A") -> object:
        return judge_model("m", "M", ranks, known, test, dataset="planted", protocol=protocol)  # type: ignore[arg-type]

    with pytest.raises(DataError, match="held-out interactions were fitted on"):
        judge(scores, known=train + test)
    with pytest.raises(DataError, match="no warm shopper"):
        judge(scores, known=train + test, protocol="B")
    users = np.arange(150)
    with pytest.raises(DataError, match="lacks shoppers"):
        judge(Ranking(users[1:], np.full((149, 20), -1)))
    with pytest.raises(DataError, match="lacks shoppers"):
        judge(Ranking(users[:0], np.full((0, 20), -1)))
    with pytest.raises(DataError, match="items that the shopper has"):
        judge(Ranking(users, train.indices[train.indptr[:-1]][:, None].astype(np.int64)))
