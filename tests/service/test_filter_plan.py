from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.filter_plan import Asked, IndexCost, Passing, fetch


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01])
def test_so_many_are_fetched_that_enough_pass_nearly_always(share: float) -> None:
    random = np.random.default_rng(0)
    passed = random.binomial(fetch(200, share), share, size=10_000)
    assert (passed >= 200).mean() > 0.995
    assert passed.mean() < 250  # and not many more than enough


@given(st.integers(1, 1000), st.floats(0.0, 1.0))
def test_never_fewer_are_fetched_than_are_asked_for(count: int, share: float) -> None:
    assert fetch(count, 1.0) == count
    assert fetch(count, share) >= count


@given(st.lists(st.booleans(), max_size=50))
def test_what_passes_is_a_mask_and_its_rows(mask: list[bool]) -> None:
    passing = Passing.of(np.array(mask, np.bool_))
    assert passing.rows.tolist() == [row for row, passes in enumerate(mask) if passes]
    assert passing.rows.dtype == np.int32
    assert passing.share == (sum(mask) / len(mask) if mask else 0.0)
    assert passing.nbytes == len(mask) + 4 * sum(mask)


@pytest.mark.parametrize(("share", "is_worth"), [(1.0, True), (0.5, True), (0.2, True), (0.1, False), (0.001, False)])
def test_the_index_is_asked_where_that_was_measured_to_be_cheaper(share: float, is_worth: bool) -> None:
    """The table in docs/FILTERS.md: half a million items, 200 candidates, an index searched 300 deep."""
    passing = Passing.of(np.arange(498_196) < share * 498_196)
    assert IndexCost(300, is_exact=False).is_worth(fetch(200, share), passing) is is_worth
    assert not IndexCost(0, is_exact=True).is_worth(fetch(200, share), passing)


@given(st.integers(0, 6), st.sets(st.integers(0, 15)), st.none() | st.lists(st.booleans(), min_size=16, max_size=16))
def test_what_is_left_of_the_index(first: int, excluded: set[int], mask: list[bool] | None) -> None:
    """Sixteen rows, of which the last six are new."""
    passing = None if mask is None else Passing.of(np.array(mask, np.bool_))
    asked = Asked(5, 5, passing, np.zeros((6, 2), np.float32))
    passes = [mask is None or mask[row] for row in range(16)]
    assert asked.rows(10, first=first).tolist() == [row for row in range(first, 16) if passes[row]]
    left = [row for row in range(10) if passes[row] and row not in excluded]
    assert asked.left(10, np.array(sorted(excluded), np.int32)) == len(left)
