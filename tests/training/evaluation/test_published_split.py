"""The judge on the split that papers judge on, which also says that its parts do not overlap."""

import numpy as np
import pytest

from benchmarks.models.published_splits import data_root, load_split
from training.baselines import item_knn, popularity
from training.evaluation.judge import judge_model
from training.evaluation.significance import compare


@pytest.mark.real_data
def test_amazon_baby() -> None:
    if not (data_root() / "amazon-baby").is_dir():
        pytest.skip(f"no real data: {data_root()} is not there; set PLOTPOINTE_REAL_DATA")
    split = load_split("amazon-baby")
    models = {
        "item-knn": item_knn(split.train, neighbors=1000, shrinkage=100.0),
        "popularity": popularity(np.asarray(split.train.sum(0)).ravel()),
    }
    judged = {
        name: judge_model(name, name, scores, split.train, split.test, dataset="amazon-baby", protocol="A", draws=200)
        for name, scores in models.items()
    }
    knn, popular = judged["item-knn"][0], judged["popularity"][0]
    assert knn.users == np.count_nonzero(np.diff(split.test.indptr))
    assert knn.metrics["recall@20"].mean == pytest.approx(0.0829, abs=0.0005)
    assert knn.metrics["ndcg@20"].mean == pytest.approx(0.0403, abs=0.0005)
    assert 0.0030 < knn.metrics["recall@20"].high - knn.metrics["recall@20"].mean < 0.0045
    assert popular.metrics["recall@20"].mean == pytest.approx(0.0495, abs=0.0005)
    assert popular.slices["items/tail"]["recall@20"].mean == 0.0
    [difference] = compare(
        {name: per_user for name, (_, per_user) in judged.items()}, "popularity", metrics=["ndcg@20"]
    )
    assert difference.significant
    assert difference.low > 0.01
