"""Long-tailed degrees with an exact sum, and a bipartite graph that has exactly those degrees.

A power law `p(d) ~ d^-a` between a smallest and a largest degree has one exponent `a` for a wanted mean; degrees are
its quantiles, so nothing is left to chance. The graph is a configuration model: the half-edges of both sides are
sorted by what they want and paired; a pair that is there twice changes partners with another: degrees stay.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offline_jobs.generated_world import Floats, Ints
from service.errors import InputError

ROUNDS = 400
"""Rounds of changing partners; a shop of usual density needs about ten."""


def long_tail(count: int, total: int, smallest: int, largest: int) -> Ints:
    """(count,) degrees from largest to smallest, whose sum is `total`.

    Needs `count * smallest <= total <= count * largest`.
    """
    middle = (np.arange(count) + 0.5) / count
    low, high = 0.0, 60.0  # exponents: the mean falls as the exponent grows
    for _ in range(100):
        exponent = (low + high) / 2
        if _quantiles(middle, exponent, smallest, largest).sum() > total:
            low = exponent
        else:
            high = exponent
    degrees = np.clip(np.rint(_quantiles(middle, high, smallest, largest)), smallest, largest).astype(np.int64)[::-1]
    return _with_sum(degrees.copy(), total, smallest, largest)


def _quantiles(share: Floats, exponent: float, smallest: int, largest: int) -> Floats:
    """Quantiles of the density d^-exponent on [smallest - 1/2, largest + 1/2]."""
    a, b, power = smallest - 0.5, largest + 0.5, 1.0 - exponent
    if abs(power) < 1e-9:
        return np.asarray(a * (b / a) ** share)
    return np.asarray(a * (1.0 + share * ((b / a) ** power - 1.0)) ** (1.0 / power))


def _with_sum(degrees: Ints, total: int, smallest: int, largest: int) -> Ints:
    """Add or take one here and there, spread evenly over what may change, until the sum is right."""
    while (missing := total - int(degrees.sum())) != 0:
        able = np.flatnonzero(degrees < largest if missing > 0 else degrees > smallest)
        chosen = able[np.linspace(0, len(able) - 1, min(abs(missing), len(able))).astype(np.int64)]
        degrees[chosen] += np.sign(missing)
    return np.sort(degrees)[::-1]


def pair_up(
    user: Ints, item: Ints, items: int, taken: Ints, rng: np.random.Generator, window: int = 2000
) -> tuple[Ints, Ints]:
    """Half-edges `user[k]`, `item[k]` paired by position, and mended until no pair is there twice or in `taken`.

    `taken` holds pairs as `user * items + item`, sorted. A pair changes partners within `window` positions, wider every
    round, so what was near stays near. Raises InputError where no way out is found: the shop is too dense.
    """
    item = item.copy()
    for turn in range(ROUNDS):
        pairs = user * items + item
        bad = _bad(pairs, taken)
        if len(bad) == 0:
            return user, item
        there = np.sort(np.concatenate([pairs, taken]))
        reach = min(len(user), window << min(turn // 4, 20))
        other = np.clip(bad + rng.integers(-reach, reach + 1, size=len(bad)), 0, len(user) - 1)
        first = np.unique(other, return_index=True)[1]
        bad, other = bad[first], other[first]
        free = ~np.isin(other, bad)
        free &= ~_among(user[bad] * items + item[other], there) & ~_among(user[other] * items + item[bad], there)
        bad, other = bad[free], other[free]
        item[bad], item[other] = item[other], item[bad]
    left = len(_bad(user * items + item, taken))
    raise InputError(
        f"{left:,} of {len(user):,} purchases find no place: the shop is too dense",
        where="--interactions",
        todo="Lower it, or raise --items, --users or --warm-items",
    )


def _bad(pairs: Ints, taken: Ints) -> Ints:
    """Positions of pairs that are there already: in `taken`, or earlier in `pairs`."""
    order = np.argsort(pairs, kind="stable")
    inner = pairs[order]
    again = np.zeros(len(pairs), np.bool_)
    again[order[1:]] = inner[1:] == inner[:-1]
    return np.flatnonzero(again | _among(pairs, taken))


def _among(values: Ints, ordered: Ints) -> npt.NDArray[np.bool_]:
    if len(ordered) == 0:
        return np.zeros(len(values), np.bool_)
    return np.asarray(ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values)
