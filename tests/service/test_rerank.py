from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.domain import Candidates
from service.rerank import Reranker
from service.shoppers import Shoppers


@pytest.fixture
def bundle(exact_bundle_root: Path) -> Bundle:
    return open_bundle(exact_bundle_root / active_version(exact_bundle_root))


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100, 200, 250])
def test_padding_to_a_bucket_changes_no_score(bundle: Bundle, world: Any, count: int) -> None:
    shoppers, reranker = Shoppers(bundle), Reranker(bundle, most_candidates=200)
    user_id = "shopper-003"
    shopper = shoppers.shopper(world.user_ids.index(user_id))
    rows = np.random.default_rng(0).permutation(600)[:count].astype(np.int32)
    scores = reranker.scores(Candidates(rows, np.zeros(count, np.float32)), shopper.history)
    np.testing.assert_allclose(scores, world.rerank_scores(user_id, rows), rtol=1e-5, atol=1e-5)


def test_buckets_end_with_the_usual_number_of_candidates(bundle: Bundle) -> None:
    assert Reranker(bundle, most_candidates=200).buckets == (32, 64, 128, 200)
    assert Reranker(bundle, most_candidates=20).buckets == (20,)
