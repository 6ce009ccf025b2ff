"""The accountant against a published figure, a closed form and the integral it stands for."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from training.extended.privacy import epsilon, renyi


def test_the_figure_that_tensorflow_privacy_publishes() -> None:
    # Its README: 60,000 rows, batches of 256, noise 1.12, 60 epochs, delta 1e-5: eps = 2.92.
    assert epsilon(256 / 60_000, 1.12, 60 * 60_000 // 256, 1e-5) == pytest.approx(2.92, abs=0.005)


@pytest.mark.parametrize(("q", "z", "alpha"), [(0.1, 1.0, 2), (0.1, 1.0, 8), (0.5, 2.0, 5), (0.02, 0.8, 3)])
def test_a_round_is_the_divergence_of_the_two_mixtures(q: float, z: float, alpha: int) -> None:
    def density(x: float, mean: float) -> float:
        return math.exp(-((x - mean) ** 2) / (2 * z * z)) / (z * math.sqrt(2 * math.pi))

    def integrand(x: float) -> float:
        without = density(x, 0)
        return without * ((1 - q) + q * density(x, 1) / without) ** alpha

    moment, _ = quad(integrand, -20 * z, alpha + 15 * z, limit=400)
    assert renyi(q, z, alpha) == pytest.approx(math.log(moment) / (alpha - 1), rel=1e-6)


def test_all_clients_in_every_round_is_the_gaussian_mechanism() -> None:
    assert renyi(1.0, 2.0, 6) == pytest.approx(6 / 8)
    assert renyi(1 - 1e-12, 2.0, 6) == pytest.approx(6 / 8, rel=1e-6)


def test_less_noise_more_rounds_and_larger_samples_cost_privacy() -> None:
    for costs in (
        [epsilon(0.1, z, 40, 1e-4) for z in (4.0, 2.0, 1.0, 0.5, 0.0)],
        [epsilon(0.1, 1.0, rounds, 1e-4) for rounds in (1, 10, 100)],
        [epsilon(q, 1.0, 40, 1e-4) for q in (0.01, 0.1, 1.0)],
    ):
        assert (np.diff(costs) > 0).all()
