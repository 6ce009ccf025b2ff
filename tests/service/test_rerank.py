from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.domain import Candidates
from service.item_tables import ItemTables
from service.neighborhood import History, no_places
from service.rerank import Reranker
from service.shoppers import Shoppers


@pytest.fixture
def bundle(exact_bundle_root: Path) -> Bundle:
    return open_bundle(exact_bundle_root / active_version(exact_bundle_root))


@pytest.fixture
def tables(bundle: Bundle) -> ItemTables:
    return ItemTables(bundle, no_places(bundle.manifest.num_items))


def history_of(shoppers: Shoppers, world: Any, user_id: str) -> History:
    return shoppers.history(*shoppers.past(world.user_ids.index(user_id)), now=shoppers.as_of)


def candidates(count: int) -> Candidates:
    rows = np.random.default_rng(count).permutation(600)[:count].astype(np.int32)
    return Candidates(rows, np.zeros(count, np.float32))


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100, 200, 250])
def test_padding_to_a_bucket_changes_no_score(bundle: Bundle, tables: ItemTables, world: Any, count: int) -> None:
    shoppers, reranker = Shoppers(bundle), Reranker(bundle, most_candidates=200)
    found = candidates(count)
    scores = reranker.scores(found, history_of(shoppers, world, "shopper-003"), tables)
    np.testing.assert_allclose(scores, world.rerank_scores("shopper-003", found.rows), rtol=1e-5, atol=1e-5)


def test_several_requests_share_calls_and_each_gets_its_own_scores(
    bundle: Bundle, tables: ItemTables, world: Any
) -> None:
    shoppers, reranker = Shoppers(bundle), Reranker(bundle, most_candidates=200)
    users = world.user_ids[:30]
    found = [candidates(1 + 7 * place) for place in range(len(users))]
    histories = [history_of(shoppers, world, user_id) for user_id in users]
    together = reranker.scores_many(found, histories, tables)
    for own, history, scores in zip(found, histories, together, strict=True):
        np.testing.assert_allclose(scores, reranker.scores(own, history, tables), rtol=1e-5, atol=1e-5)


def test_variants_lay_changes_over_one_request(bundle: Bundle, tables: ItemTables, world: Any) -> None:
    shoppers, reranker = Shoppers(bundle), Reranker(bundle, most_candidates=200)
    found, history = candidates(40), history_of(shoppers, world, "shopper-003")
    feeds = reranker.feeds(found, history, tables)
    popular = {"candidate_popularity": feeds["candidate_popularity"] + 10}
    got = reranker.variants(feeds, [{}, popular] * 9, 40)
    plain = reranker.scores(found, history, tables)
    assert got.shape == (18, 40)
    np.testing.assert_allclose(got[::2], np.broadcast_to(plain, (9, 40)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got[1::2], np.broadcast_to(plain + 1, (9, 40)), rtol=1e-5, atol=1e-5)


def test_buckets_end_with_the_usual_number_of_candidates(bundle: Bundle) -> None:
    assert Reranker(bundle, most_candidates=200).buckets == (32, 64, 128, 200)
    assert Reranker(bundle, most_candidates=20).buckets == (20,)
