"""What an answer depends on, as a text: the key that it is cached under. No user id is part of one."""

from __future__ import annotations

import hashlib

from service.catalog import Catalog
from service.domain import NO_RULES, Query, SimilarQuery
from service.filters import parse_filter
from service.state_codec import ShopperState, state_key

_PLAIN = (0, (), (), "", "", True, True, NO_RULES, None, 0.0, False)


def recommend_key(
    version: str, num_candidates: int, catalog: Catalog, query: Query, user_row: int | None, state: ShopperState
) -> str:
    """All who are unknown and ask the same share one answer. Raises InvalidFilterError."""
    known = user_row is not None or state.version
    if not known:
        shopper: int | str = "unknown"
    else:
        shopper = state_key(query.user_id) if user_row is None else user_row
    parts = (
        query.offset,
        query.history,
        query.seed_items,
        query.category,
        query.filter,
        query.strict_filtering,
        query.exclude_seen,
        query.rules,
        query.weights,
        query.diversity,
        query.explain,
    )
    further = "" if parts == _PLAIN else _digest(*parts, *_filtered(catalog, query.filter, query.rules != NO_RULES))
    return f"{version}:{catalog.content_sequence}:{num_candidates}:{query.k}:{shopper}:{state.version:x}:{further}"


def similar_key(version: str, catalog: Catalog, query: SimilarQuery) -> str:
    """For an item's like; texts and pictures are not cached. Raises InvalidFilterError."""
    digest = _digest(query.item_id, query.by, query.weights, *_filtered(catalog, query.filter, False))
    return f"{version}:{catalog.content_sequence}:similar:{query.k}:{digest}"


def _filtered(catalog: Catalog, text: str, with_rules: bool) -> tuple[object, ...]:
    """What a filter adds to a key: itself, however it is written, and the state of what it looks at."""
    if not text and not with_rules:
        return ()
    return (parse_filter(text).key if text else "", catalog.sequence)


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
