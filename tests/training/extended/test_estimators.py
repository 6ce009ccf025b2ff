"""Estimators against the true value, by adding up every possible row of small worlds instead of drawing logs."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import DataError
from training.extended.estimators import (
    Floats,
    Logged,
    clipped_ips,
    diagnose,
    dr,
    ips,
    snips,
    switch_dr,
    value,
)

STEADY = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class World:
    """Every row (x, a, r) that can be logged, with its probability; π, q and v beside it."""

    probability: Floats
    weight: Floats
    reward: Floats
    truth: Floats
    """E[r|x, a] of the row."""
    modelled: Floats
    expected: Floats
    value: float

    def expect(self, terms: Floats) -> float:
        return float(self.probability @ terms)


@st.composite
def worlds(draw: st.DrawFn, *, exact_model: bool = False, wrong_propensity: bool = False) -> World:
    contexts, actions = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sharpness = draw(st.sampled_from([0.3, 1.0, 3.0]))

    def policy() -> Floats:
        grown = np.exp(sharpness * rng.normal(size=(contexts, actions)))
        return grown / grown.sum(1, keepdims=True)

    share = rng.dirichlet(np.ones(contexts))
    logging, target = policy(), policy()
    click = rng.random((contexts, actions))
    q = click if exact_model else rng.random((contexts, actions))
    told = policy() if wrong_propensity else logging
    x, a, r = (part.ravel() for part in np.indices((contexts, actions, 2)))
    return World(
        probability=share[x] * logging[x, a] * np.where(r == 1, click[x, a], 1 - click[x, a]),
        weight=target[x, a] / told[x, a],
        reward=r.astype(np.float64),
        truth=click[x, a],
        modelled=q[x, a],
        expected=(target * q).sum(1)[x],
        value=float(share @ (target * click).sum(1)),
    )


@STEADY
@given(worlds())
def test_ips_and_dr_are_unbiased_with_any_model(world: World) -> None:
    assert world.expect(ips(world.weight, world.reward)) == pytest.approx(world.value, abs=1e-12)
    terms = dr(world.weight, world.reward, world.modelled, world.expected)
    assert world.expect(terms) == pytest.approx(world.value, abs=1e-12)


@STEADY
@given(worlds(exact_model=True, wrong_propensity=True))
def test_dr_is_unbiased_with_wrong_propensities_where_the_model_is_right(world: World) -> None:
    terms = dr(world.weight, world.reward, world.modelled, world.expected)
    assert world.expect(terms) == pytest.approx(world.value, abs=1e-10)


@STEADY
@given(worlds(), st.floats(0.2, 5))
def test_clipping_takes_off_exactly_what_stands_above_the_cap(world: World, cap: float) -> None:
    bias = world.expect(clipped_ips(world.weight, world.reward, cap)) - world.value
    assert bias == pytest.approx(-world.expect(np.maximum(world.weight - cap, 0) * world.truth), abs=1e-12)
    assert bias <= 1e-12


@STEADY
@given(worlds(), st.floats(0.2, 5))
def test_switching_leaves_the_models_error_where_weights_are_large(world: World, cap: float) -> None:
    terms = switch_dr(world.weight, world.reward, world.modelled, world.expected, cap)
    left = np.where(world.weight > cap, world.weight, 0) * (world.modelled - world.truth)
    assert world.expect(terms) - world.value == pytest.approx(world.expect(left), abs=1e-12)


@STEADY
@given(worlds(), st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_snips_stays_in_the_range_of_rewards_and_moves_with_them(world: World, seed: int, moved: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(world.reward), 20, p=world.probability / world.probability.sum())
    weight, reward = world.weight[rows], world.reward[rows]
    estimate = value(snips(weight, reward)).mean
    assert estimate == pytest.approx((weight * reward).sum() / weight.sum())
    assert -1e-12 <= estimate <= 1 + 1e-12
    assert value(snips(weight, reward + moved)).mean == pytest.approx(estimate + moved, abs=1e-9)


@STEADY
@given(worlds())
def test_snips_of_endlessly_many_rows_is_the_truth(world: World) -> None:
    ratio = world.expect(world.weight * world.reward) / world.expect(world.weight)
    assert ratio == pytest.approx(world.value, abs=1e-12)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        shown = rng.random(500) < 0.3
        weight = np.where(shown, 0.6 / 0.3, 0.4 / 0.7)
        reward = (rng.random(500) < np.where(shown, 0.5, 0.2)).astype(np.float64)
        estimate = value(ips(weight, reward))
        covered += estimate.low <= 0.6 * 0.5 + 0.4 * 0.2 <= estimate.high
    assert 0.92 <= covered / 400 <= 0.98


def test_diagnostics_of_equal_and_of_one_weight() -> None:
    equal = diagnose(np.ones(8), np.full(8, 0.5))
    assert (equal.effective_rows, equal.max_weight, equal.mean_weight, equal.least_propensity) == (8, 1, 1, 0.5)
    one = diagnose(np.array([4.0, 0, 0, 0]), np.array([0.25, 0.5, 0.5, 0.5]))
    assert (one.effective_rows, one.max_weight, one.mean_weight, one.least_propensity) == (1, 4, 1, 0.25)
    assert diagnose(np.zeros(3), np.ones(3)).effective_rows == 0


GOOD = {"context": np.zeros((3, 2), np.float32), "action": np.array([0, 1, 1]), "propensity": np.full(3, 0.5)}


@pytest.mark.parametrize(
    ("field", "wrong", "said"),
    [
        ("propensity", np.array([0.5, 0.0, 0.5]), "row 1: propensity: 0.0 is no probability"),
        ("propensity", np.array([0.5, 0.5, 1.5]), "row 2: propensity: 1.5 is no probability"),
        ("propensity", np.array([-0.1, 0.5, 1.0]), "row 0: propensity: -0.1 is no probability"),
        ("propensity", np.array([0.5, np.nan, 1.0]), "row 1: propensity: nan is not a finite number"),
        ("reward", np.array([0, 0, np.inf]), "row 2: reward: inf is not a finite number"),
        ("action", np.array([0, 2, 1]), "row 1: action: 2 is not one of 2 actions"),
        ("propensity", np.full(2, 0.5), "propensity: 2 rows beside 3 actions"),
    ],
)
def test_a_log_that_no_estimator_could_use_is_refused(field: str, wrong: Floats, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Logged(**{**GOOD, "reward": np.zeros(3), "actions": 2, field: wrong})  # type: ignore[arg-type]


def test_an_empty_log_is_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        Logged(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0), np.zeros(0), 2)
