"""What is known of the shopper behind a request: the bundle's history, what they did since, what the request brings.

It decides the rung of the cold ladder: a shopper with a history of their own, then what they did lately, then the
items that the request is about. Of whom nothing is known gets popular items.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.catalog import NO_ROWS, Catalog
from service.domain import FeedbackEvent, FeedbackKind, PastEvent, Strategy
from service.neighborhood import History
from service.shoppers import Past, Shoppers

NO_PAST: Past = (NO_ROWS, np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one shopper."""

    strategy: Strategy | None
    """None where nothing is known."""
    history: History
    """The last events, newest first, padded."""
    seen: npt.NDArray[np.int32]
    """(S,) distinct item rows, ascending, that the answer must not hold."""
    seeds: frozenset[int]
    """Rows of the request's seed items."""


def known(
    shoppers: Shoppers,
    catalog: Catalog,
    user_row: int | None,
    *,
    events: Iterable[FeedbackEvent] = (),
    history: Iterable[PastEvent] = (),
    seed_items: Iterable[str] = (),
    exclude_seen: bool = True,
) -> Known:
    """Put together what is known; `events` and `history` are in order, oldest first, and any item may be unknown.

    What was bought is not shown again, what is disliked neither, and dislike takes an item out of the history. Of
    several events with one item since the bundle was published the last counts.
    """
    rows, times = shoppers.past(user_row) if user_row is not None else NO_PAST
    own = bool(len(rows))
    late = _late(catalog, events, history, now=int(times[-1]) if own else shoppers.as_of)
    seeds = catalog.rows(tuple(seed_items))
    if not late and not len(seeds):
        seen = np.unique(rows) if exclude_seen else NO_ROWS
        history_ = shoppers.history(rows, times, now=shoppers.as_of)
        return Known(Strategy.PERSONAL if own else None, history_, seen, frozenset())
    disliked = [row for row, (kind, _) in late.items() if kind is FeedbackKind.DISLIKE]
    bought = [row for row, (kind, _) in late.items() if kind is FeedbackKind.PURCHASE]
    seen = np.unique(np.concatenate([rows, np.array(bought, np.int32)])) if exclude_seen else NO_ROWS
    liked = {row: time for row, (_, time) in late.items() if row not in set(disliked)}
    now = max([shoppers.as_of, *liked.values()])
    liked |= dict.fromkeys(seeds.tolist(), now)
    order = sorted(liked, key=lambda row: liked[row])  # stable: as they came
    kept = ~np.isin(rows, disliked)
    rows = np.concatenate([rows[kept], np.array(order, np.int32)])
    times = np.concatenate([times[kept], np.array([liked[row] for row in order], np.int64)])
    without = np.unique(np.concatenate([seen, np.array(disliked, np.int32), seeds]))
    strategy = Strategy.PERSONAL if own else Strategy.SESSION if len(liked) > len(seeds) else Strategy.SEED
    return Known(
        strategy if len(rows) else None, shoppers.history(rows, times, now=now), without, frozenset(seeds.tolist())
    )


def _late(
    catalog: Catalog, events: Iterable[FeedbackEvent], history: Iterable[PastEvent], *, now: int
) -> dict[int, tuple[FeedbackKind, int]]:
    """Row -> the last thing done with it and when (unix seconds), in the order of those last things.

    A purchase is not undone by a later view of the same item.
    """
    found: dict[int, tuple[FeedbackKind, int]] = {}
    latest = now
    both: tuple[FeedbackEvent | PastEvent, ...] = (*events, *history)
    for event in both:
        row = catalog.row(event.item_id)
        if row is None:
            continue
        time = latest if event.timestamp is None else int(event.timestamp)
        latest = max(latest, time)
        before = found.pop(row, None)
        bought = before is not None and before[0] is FeedbackKind.PURCHASE and event.kind is not FeedbackKind.DISLIKE
        found[row] = (FeedbackKind.PURCHASE if bought else event.kind, time)
    return found
