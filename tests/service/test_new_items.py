"""Items that came later: in the planted shop their right place is known, and every shortcut has its plain reference."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.content import Content, NewItem
from service.encoders import ContentEncoders
from service.errors import EncoderUnavailableError
from service.neighborhood import Relation, edges, last_events, no_places
from service.new_items import NEIGHBORS, NewItems, edges_from_new, edges_to_new, nearest

GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1"


@pytest.fixture(scope="module")
def bundle(exact_bundle_root: Path) -> Bundle:
    return open_bundle(exact_bundle_root / active_version(exact_bundle_root))


@pytest.fixture(scope="module")
def new_items(bundle: Bundle) -> NewItems:
    return NewItems(bundle)


def of(item: int, bundle: Bundle) -> Content:
    """What the bundle itself says of an item."""
    assert bundle.content is not None
    return Content(bundle.content[item], bundle.look[item], bundle.meaning[item])


def test_a_new_item_lies_among_those_of_its_kind(
    planted: ModuleType, world: Any, bundle: Bundle, new_items: NewItems
) -> None:
    encoders = ContentEncoders.open(bundle)
    for cluster, word in enumerate(planted.WORDS):
        item = new_items.embed(encoders.content(f"{word} thing", None))
        assert (world.cluster[item.neighbor_rows] == cluster).all()
        assert item.neighbor_rows.shape == item.neighbor_weights.shape == (NEIGHBORS,)
        assert item.neighbor_weights.sum() == pytest.approx(1, abs=1e-5)
        for vector, table in ((item.item_vector, bundle.item_vectors), (item.history_vector, bundle.history_vectors)):
            assert (vector.shape, vector.dtype) == ((planted.DIM,), np.float32)
            assert (world.cluster[np.argsort(-(table @ vector))[:20]] == cluster).all()


def test_a_hidden_item_is_found_again_by_its_content(world: Any, bundle: Bundle, new_items: NewItems) -> None:
    cosines = []
    for row in range(1, 600, 7):
        item = new_items.embed(of(row, bundle), without=np.array([row], np.int32))
        assert row not in item.neighbor_rows
        for vector, table in ((item.item_vector, world.vectors), (item.history_vector, world.vectors)):
            cosines.append(vector @ table[row] / np.linalg.norm(vector))
    assert np.quantile(cosines, 0.1) > 0.8


def test_the_history_vector_is_as_long_as_those_of_unbought_items(bundle: Bundle, new_items: NewItems) -> None:
    lengths = np.linalg.norm(bundle.history_vectors[bundle.popularity == 0], axis=1)
    expected = np.median(lengths) if len(lengths) else np.median(np.linalg.norm(bundle.history_vectors, axis=1))
    assert np.linalg.norm(new_items.embed(of(3, bundle)).history_vector) == pytest.approx(expected, rel=1e-5)


def test_content_that_is_like_nothing_has_no_neighbors_and_a_vector_all_the_same(
    planted: ModuleType, new_items: NewItems
) -> None:
    nothing = np.zeros(128, np.float32)
    item = new_items.embed(Content(nothing, nothing, nothing))
    assert len(item.neighbor_rows) == len(item.neighbor_weights) == 0
    assert np.isfinite(item.item_vector).all()
    assert not item.history_vector.any()
    relations = (Relation(np.zeros((600, 2), np.int32), np.ones((600, 2), np.float32)),)
    history = last_events(np.array([1], np.int32), np.array([0]), now=0, length=8)
    assert not edges_to_new([item], history, relations, no_places(600)).any()
    assert not edges_from_new(item, np.array([0], np.int32), relations, no_places(600)).any()


def test_a_bundle_without_content_places_nothing() -> None:
    with pytest.raises(EncoderUnavailableError, match="has no content table"):
        NewItems(open_bundle(GOLDEN_V1 / active_version(GOLDEN_V1)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 12))
def test_nearest_is_the_exact_nearest(seed: int, n: int, k: int) -> None:
    random = np.random.default_rng(seed)
    table = random.integers(-2, 3, (n, 4)).astype(np.float32)  # few values: ties and rows of zeros
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    vector = table[random.integers(n)].copy()
    without = np.unique(random.integers(0, n, 3)).astype(np.int32)
    rows, cosines = nearest(table, vector, k, without=without)
    scores = table @ vector
    able = [row for row in range(n) if scores[row] != 0 and row not in without]
    assert rows.tolist() == sorted(able, key=lambda row: (-scores[row], row))[:k]
    np.testing.assert_array_equal(cosines, scores[rows])


def new(rows: list[int], weights: list[float]) -> NewItem:
    nothing = np.zeros(1, np.float32)
    return NewItem(
        Content(nothing, nothing, nothing), nothing, nothing, np.array(rows, np.int32), np.array(weights, np.float32)
    )


def test_edges_are_the_neighbors_edges_in_shares(world: Any, planted: ModuleType) -> None:
    relations = [Relation(world.neighbors[r], world.weights[r]) for r in range(2)]
    history = last_events(np.array([5, 17, 200, 311], np.int32), np.arange(4), now=4, length=8)
    places = no_places(planted.NUM_ITEMS)
    near = world.neighbors[0, [5, 200]]  # items near those of the history have edges from there
    items = [new(near[0].tolist(), [1 / 8] * 8), new(near[1, :3].tolist(), [0.7, 0.3, 0.0]), new([5, 17], [0.5, 0.5])]
    found = edges_to_new(items, history, relations, places)
    assert found.shape == (3, 8, 2)
    for m, item in enumerate(items):
        one_by_one = np.stack([edges(row[None], history, relations, places)[0] for row in item.neighbor_rows])
        expected = (one_by_one * item.neighbor_weights[:, None, None]).sum(axis=0)
        np.testing.assert_allclose(found[m], expected, atol=1e-6)
    assert found[:2].any()
    assert not found[:, 4:].any()
    assert edges_to_new([], history, relations, places).shape == (0, 8, 2)
    assert (places == -1).all()


def test_edges_from_a_new_item_are_its_neighbors_edges_in_shares(world: Any, planted: ModuleType) -> None:
    relations = [Relation(world.neighbors[r], world.weights[r]) for r in range(2)]
    places = no_places(planted.NUM_ITEMS)
    item = new([5, 200, 311], [0.5, 0.3, 0.2])
    candidates = np.unique(world.neighbors[0, [5, 200]].ravel()).astype(np.int32)
    found = edges_from_new(item, candidates, relations, places)
    assert found.shape == (len(candidates), 2)
    for c, candidate in enumerate(candidates):
        for r, relation in enumerate(relations):
            plain = 0.0
            for row, weight in zip(item.neighbor_rows, item.neighbor_weights, strict=True):
                plain += weight * relation.weights[row][relation.neighbors[row] == candidate].sum()
            assert found[c, r] == pytest.approx(plain, abs=1e-6)
    assert found.any()
