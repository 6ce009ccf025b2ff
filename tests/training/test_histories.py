"""Histories for everyone at once equal the service's own, shopper by shopper."""

import numpy as np
import pytest

from service.neighborhood import last_events
from training.dataset import Interactions
from training.histories import histories, past_of, user_vectors


def some_interactions(seed: int) -> Interactions:
    rng = np.random.default_rng(seed)
    n = 400
    return Interactions(
        rng.integers(0, 30, n).astype(np.int32),
        rng.integers(0, 25, n).astype(np.int32),
        rng.integers(0, 10**6, n).astype(np.int64),
        np.zeros(n, np.int8),
        31,
        25,
    )


@pytest.mark.parametrize("length", [1, 5, 50])
def test_padding_equals_the_services_function(length: int) -> None:
    interactions = some_interactions(1)
    past = past_of(interactions)
    together = histories(past, now=2 * 10**6, length=length)
    for user in range(interactions.num_users):
        part = slice(past.offsets[user], past.offsets[user + 1])
        alone = last_events(past.items[part], past.times[part], now=2 * 10**6, length=length)
        np.testing.assert_array_equal(together.rows[user], alone.rows)
        np.testing.assert_array_equal(together.mask[user], alone.mask)
        np.testing.assert_allclose(together.age_days[user], alone.age_days, rtol=1e-6)


def test_a_past_holds_each_item_once_at_its_last_purchase_oldest_first() -> None:
    interactions = some_interactions(2)
    past = past_of(interactions)
    for user in range(interactions.num_users):
        mine = interactions.user_row == user
        last = {
            i: max(interactions.timestamp[mine & (interactions.item_row == i)]) for i in interactions.item_row[mine]
        }
        part = slice(past.offsets[user], past.offsets[user + 1])
        assert dict(zip(past.items[part], past.times[part], strict=True)) == last
        assert (np.diff(past.times[part]) >= 0).all()


def test_an_empty_history_points_at_popularity_alone() -> None:
    interactions = some_interactions(3)
    events = np.random.default_rng(0).normal(size=(25, 4)).astype(np.float32)
    events[:, -1] = 0.0
    vectors = user_vectors(histories(past_of(interactions), now=10**6, length=5), events, 0.1)
    assert vectors[30].tolist() == [0.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(np.linalg.norm(vectors[:30, :3], axis=1), 1.0, rtol=1e-5)
