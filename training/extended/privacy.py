"""What DP-FedAvg guarantees: Rényi accounting of the Gaussian mechanism on a Poisson sample.

For whole orders α, sampling probability q and noise multiplier z, one round has the Rényi divergence

    ε(α) = 1/(α-1) · log Σ_{k=0}^α C(α, k) (1-q)^(α-k) q^k exp((k² - k) / (2 z²))

(Mironov, Talwar, Zhang 2019, arXiv:1908.10530, section 3.3); rounds add up, and ε = min_α [T ε(α) + log(1/δ)/(α-1)]
(Mironov 2017, arXiv:1702.07476). Neighbouring data differ by one client, added or removed.
"""

from __future__ import annotations

import math

ORDERS: tuple[int, ...] = (*range(2, 65), 80, 96, 128, 192, 256, 512)


def renyi(q: float, z: float, alpha: int) -> float:
    """ε(α) of one round: q in (0, 1], z > 0, α whole and at least 2."""
    if q == 1.0:
        return alpha / (2 * z * z)
    logs = [
        math.lgamma(alpha + 1)
        - math.lgamma(k + 1)
        - math.lgamma(alpha - k + 1)
        + (alpha - k) * math.log1p(-q)
        + k * math.log(q)
        + (k * k - k) / (2 * z * z)
        for k in range(alpha + 1)
    ]
    top = max(logs)
    return (top + math.log(sum(math.exp(one - top) for one in logs))) / (alpha - 1)


def epsilon(q: float, z: float, rounds: int, delta: float) -> float:
    """The ε of (ε, δ)-differential privacy of a whole client after `rounds`; infinite without noise."""
    if z == 0:
        return math.inf
    each: list[float] = [rounds * renyi(q, z, alpha) + math.log(1 / delta) / (alpha - 1) for alpha in ORDERS]
    return min(each)
