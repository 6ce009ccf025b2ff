from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.item_tables import ItemTables
from service.neighborhood import no_places
from service.shoppers import Shoppers


@pytest.fixture
def bundle(exact_bundle_root: Path) -> Bundle:
    return open_bundle(exact_bundle_root / active_version(exact_bundle_root))


@pytest.fixture
def shoppers(bundle: Bundle) -> Shoppers:
    return Shoppers(bundle)


def test_the_vector_is_that_of_the_reference_whatever_the_padding(
    shoppers: Shoppers, bundle: Bundle, world: Any
) -> None:
    tables = ItemTables(bundle, no_places(bundle.manifest.num_items))
    lengths = set()
    for row, user_id in enumerate(world.user_ids):
        rows, times = shoppers.past(row)
        assert shoppers.row(user_id) == row
        assert rows.tolist() == world.past[user_id][0].tolist()
        if len(rows):
            history = shoppers.history(rows, times, now=shoppers.as_of)
            lengths.add(len(history.rows))
            expected = world.user_vector(user_id)
            np.testing.assert_allclose(shoppers.vector(history, tables), expected, rtol=1e-4, atol=1e-6)
    assert lengths == {8, 16, 20}


def test_several_shoppers_in_one_call(shoppers: Shoppers, bundle: Bundle, world: Any) -> None:
    tables = ItemTables(bundle, no_places(bundle.manifest.num_items))
    histories = [shoppers.history(*shoppers.past(row), now=shoppers.as_of) for row in range(40)]
    alike = [history for history in histories if len(history.rows) == 16]
    assert len(alike) > 2
    got = shoppers.vectors(alike, tables)
    for history, vector in zip(alike, got, strict=True):
        np.testing.assert_allclose(vector, shoppers.vector(history, tables), rtol=1e-5, atol=1e-6)


def test_who_is_unknown_has_no_row(shoppers: Shoppers) -> None:
    assert shoppers.row("nobody") is None


def test_a_shopper_may_have_no_past(shoppers: Shoppers, world: Any) -> None:
    rows, times = shoppers.past(world.user_ids.index("shopper-without-past"))
    assert len(rows) == 0
    assert shoppers.history(rows, times, now=shoppers.as_of).mask.sum() == 0
