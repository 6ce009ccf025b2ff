"""What an answer depends on changes its key, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from service.cache_keys import recommend_key, similar_key
from service.domain import By, ModalityWeights, PastEvent, Promotion, Query, Rules, SimilarQuery
from service.filter_grammar import InvalidFilterError
from service.state_codec import NOBODY, ShopperState

PLAIN = Query("Zoë", 10, "request-1")
CATALOG: Any = SimpleNamespace(sequence=5, content_sequence=2)
LATER: Any = SimpleNamespace(sequence=6, content_sequence=2)


def key(query: Query = PLAIN, *, catalog: Any = CATALOG, row: int | None = 3, state: ShopperState = NOBODY) -> str:
    return recommend_key("v1", 200, catalog, query, row, state)


def test_everything_that_an_answer_depends_on_is_part_of_the_key() -> None:
    changes = [
        {"k": 11},
        {"offset": 10},
        {"history": (PastEvent("a"),)},
        {"seed_items": ("a",)},
        {"category": "Hats"},
        {"filter": "price < 5"},
        {"strict_filtering": False},
        {"exclude_seen": False},
        {"rules": Rules(pin=("a",))},
        {"rules": Rules(boost=(Promotion(0.5, ("a",)),))},
        {"rules": Rules(bury=(Promotion(0.5, ("a",)),))},
        {"weights": ModalityWeights(look=1.0)},
        {"diversity": 0.5},
        {"explain": True},
    ]
    keys = [key(), *(key(replace(PLAIN, **change)) for change in changes)]
    keys += [key(row=4), key(state=ShopperState("Zoë", (b"x",), 9))]
    keys += [recommend_key("v2", 200, CATALOG, PLAIN, 3, NOBODY), recommend_key("v1", 100, CATALOG, PLAIN, 3, NOBODY)]
    keys.append(key(catalog=SimpleNamespace(sequence=5, content_sequence=3)))
    assert len(set(keys)) == len(keys)


def test_what_an_answer_does_not_depend_on_is_not() -> None:
    assert key(replace(PLAIN, request_id="another", deadline=5.0, with_metadata=True, bundle_version="v1")) == key()


def test_a_change_of_price_or_stock_leaves_the_keys_of_those_who_do_not_filter() -> None:
    assert key(catalog=LATER) == key()
    filtered = replace(PLAIN, filter="price < 5")
    assert key(filtered, catalog=LATER) != key(filtered)


def test_a_filter_counts_as_what_it_says() -> None:
    one, other = (replace(PLAIN, filter=text) for text in ('brand: ANY("a","b")', 'brand:  ANY( "b", "a" )'))
    assert key(one).rsplit(":", 1)[0] == key(other).rsplit(":", 1)[0]
    with pytest.raises(InvalidFilterError):
        key(replace(PLAIN, filter="price <"))


def test_no_user_id_is_in_a_key_and_the_unknown_share_theirs() -> None:
    assert "Zoë" not in key()
    assert "Zoë" not in key(row=None, state=ShopperState("Zoë", (b"x",), 9))
    assert key(row=None) == key(replace(PLAIN, user_id="someone else"), row=None)
    state = ShopperState("Zoë", (b"x",), 9)
    assert key(row=None, state=state) != key(replace(PLAIN, user_id="someone else"), row=None, state=state)


def test_likeness_depends_on_the_item_and_the_respect() -> None:
    query = SimilarQuery(10, "r", By.LOOK, "a")
    keys = {
        similar_key("v1", CATALOG, asked)
        for asked in (
            query,
            replace(query, by=By.MEANING),
            replace(query, item_id="b"),
            replace(query, k=11),
            replace(query, filter="price < 5"),
            replace(query, weights=ModalityWeights(look=1.0)),
        )
    }
    assert len(keys) == 6
