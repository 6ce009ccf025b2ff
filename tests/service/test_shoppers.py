from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.reader import open_bundle
from service.bundle.store import active_version
from service.shoppers import Shoppers


@pytest.fixture
def shoppers(exact_bundle_root: Path) -> Shoppers:
    return Shoppers(open_bundle(exact_bundle_root / active_version(exact_bundle_root)))


def test_the_vector_is_that_of_the_reference_whatever_the_padding(shoppers: Shoppers, world: Any) -> None:
    lengths = set()
    for row, user_id in enumerate(world.user_ids):
        shopper = shoppers.shopper(row)
        assert shoppers.row(user_id) == row
        assert shopper.seen.tolist() == sorted(world.past[user_id][0].tolist())
        if len(shopper.seen):
            lengths.add(len(shopper.history.rows))
            np.testing.assert_allclose(
                shoppers.vector(shopper.history), world.user_vector(user_id), rtol=1e-4, atol=1e-6
            )
    assert lengths == {8, 16, 20}


def test_who_is_unknown_has_no_row(shoppers: Shoppers) -> None:
    assert shoppers.row("nobody") is None


def test_a_shopper_may_have_no_past(shoppers: Shoppers, world: Any) -> None:
    shopper = shoppers.shopper(world.user_ids.index("shopper-without-past"))
    assert len(shopper.seen) == 0
    assert shopper.history.mask.sum() == 0
