"""Questions become the domain's queries, or the fields at fault."""

import time

import pytest

from service.domain import (
    MAX_BATCH,
    MAX_DEPTH,
    MAX_K,
    MAX_LISTED,
    By,
    FeedbackKind,
    ModalityWeights,
    PastEvent,
    PopularQuery,
    Promotion,
    Query,
    RerankQuery,
    Rules,
    SimilarQuery,
)
from service.validation.queries import (
    batch_queries,
    popular_query,
    recommend_query,
    rerank_query,
    similar_content_query,
    similar_items_query,
)
from service.validation.violations import InvalidFieldsError


def fields_of(ask, values) -> list[str]:
    with pytest.raises(InvalidFieldsError) as caught:
        ask(values, "r-1")
    return [violation.field for violation in caught.value.violations]


def test_a_user_is_enough():
    assert recommend_query({"user_id": "u"}, "r-1") == Query("u", 20, "r-1")


def test_everything_that_can_be_said():
    values = {
        "user_id": "u",
        "k": 5,
        "offset": 10,
        "history": [{"item_id": "a"}, {"item_id": "b", "kind": "cart", "timestamp": 7}],
        "seed_items": ["c"],
        "category": "Mice",
        "filter": "price < 5",
        "strict_filtering": False,
        "exclude_seen": False,
        "rules": {"pin": ["d"], "boost": [{"filter": "price < 2", "strength": 0.5}], "hide": ["e"]},
        "modality_weights": {"look": 1, "behaviour": 0.5},
        "diversity": 0.25,
        "explain": True,
        "metadata": True,
        "bundle_version": "v1",
    }
    assert recommend_query(values, "r-1") == Query(
        user_id="u",
        k=5,
        request_id="r-1",
        offset=10,
        history=(PastEvent("a"), PastEvent("b", FeedbackKind.CART, 7.0)),
        seed_items=("c",),
        category="Mice",
        filter="price < 5",
        strict_filtering=False,
        exclude_seen=False,
        rules=Rules(pin=("d",), boost=(Promotion(0.5, filter="price < 2"),), hide=("e",)),
        weights=ModalityWeights(look=1.0, behaviour=0.5),
        diversity=0.25,
        explain=True,
        with_metadata=True,
        bundle_version="v1",
    )


@pytest.mark.parametrize("instead", [{"history": [{"item_id": "a"}]}, {"seed_items": ["a"]}, {"category": "Mice"}])
def test_a_shopper_without_a_name_brings_something_to_go_by(instead):
    assert recommend_query(instead, "r-1").user_id == ""
    assert recommend_query(instead | {"user_id": ""}, "r-1").user_id == ""


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ([], ["body"]),
        ("u", ["body"]),
        (None, ["body"]),
        ({}, ["user_id"]),
        ({"user_id": None}, ["user_id"]),
        ({"user_id": "", "k": 0}, ["user_id", "k"]),
        ({"user_id": "", "history": [], "seed_items": [], "category": ""}, ["user_id"]),
        ({"user_id": "u", "k": -1}, ["k"]),
        ({"user_id": "u", "k": 10**9}, ["k"]),
        ({"user_id": "u", "k": MAX_K, "offset": MAX_DEPTH - MAX_K + 1}, ["offset"]),
        ({"user_id": "u" * 10_240}, ["user_id"]),
        ({"user_id": "u", "history": [{"kind": "view"}]}, ["history[0].item_id"]),
        ({"user_id": "u", "history": [{"item_id": "a"}] * (MAX_LISTED + 1)}, ["history"]),
        ({"user_id": "u", "rules": {"boost": [{"strength": 0.5}]}}, ["rules.boost[0]"]),
        ({"user_id": "u", "rules": {"bury": [{"item_ids": ["a"]}]}}, ["rules.bury[0].strength"]),
        ({"user_id": "u", "modality_weights": {}}, ["modality_weights"]),
        ({"user_id": "u", "modality_weights": {"look": 0}}, ["modality_weights"]),
        ({"user_id": "u", "diversity": 1.01}, ["diversity"]),
        ({"user_id": "u", "deadline_ms": 0}, ["deadline_ms"]),
        ({"user_id": "u", "n": 5}, ["n"]),
    ],
)
def test_a_wrong_request_names_its_fields(values, fields):
    assert fields_of(recommend_query, values) == fields


def test_the_sooner_deadline_holds():
    now = time.monotonic()
    own = recommend_query({"user_id": "u", "deadline_ms": 50}, "r-1").deadline
    assert now + 0.05 <= own <= time.monotonic() + 0.05
    assert recommend_query({"user_id": "u", "deadline_ms": 50}, "r-1", deadline=now).deadline == now
    assert recommend_query({"user_id": "u", "deadline_ms": 50}, "r-1", deadline=now + 99).deadline < now + 1
    assert recommend_query({"user_id": "u"}, "r-1", deadline=now).deadline == now
    assert rerank_query({"user_id": "u", "item_ids": ["a"], "deadline_ms": 50}, "r-1", deadline=now).deadline == now


def test_a_batch_has_an_outcome_for_each():
    good, bad = batch_queries({"requests": [{"user_id": "u"}, {"user_id": "u", "k": 0}]}, "r-1")
    assert good == Query("u", 20, "r-1")
    assert [violation.field for violation in bad.violations] == ["k"]
    assert batch_queries({"requests": [{"user_id": "u"}], "deadline_ms": 9}, "r-1")[0].deadline is not None


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({}, ["requests"]),
        ({"requests": []}, ["requests"]),
        ({"requests": [{"user_id": "u"}] * (MAX_BATCH + 1)}, ["requests"]),
        ({"requests": {}}, ["requests"]),
    ],
)
def test_what_is_no_batch_is_refused_whole(values, fields):
    assert fields_of(batch_queries, values) == fields


def test_rerank():
    values = {"user_id": "u", "item_ids": ["b", "a"], "explain": True, "metadata": True}
    assert rerank_query(values, "r-1") == RerankQuery("u", ("b", "a"), "r-1", explain=True, with_metadata=True)
    assert fields_of(rerank_query, {"user_id": "u"}) == ["item_ids"]
    assert fields_of(rerank_query, {"user_id": "u", "item_ids": []}) == ["item_ids"]
    assert fields_of(rerank_query, {"user_id": "u", "item_ids": ["a", "b", "a"]}) == ["item_ids[2]"]
    assert fields_of(rerank_query, {"user_id": "u", "item_ids": ["a"] * (MAX_DEPTH + 1)}) == ["item_ids"]
    assert fields_of(rerank_query, {"item_ids": ["a"]}) == ["user_id"]


def test_similar():
    assert similar_items_query({"item_id": "a"}, "r-1") == SimilarQuery(20, "r-1", item_id="a")
    asked = similar_items_query({"item_id": "a", "by": "look", "k": 3, "modality_weights": {"look": 1}}, "r-1")
    assert asked == SimilarQuery(3, "r-1", By.LOOK, "a", weights=ModalityWeights(look=1.0))
    assert similar_content_query({"text": "red"}, "r-1") == SimilarQuery(20, "r-1", text="red")
    assert similar_content_query({"image": "AQI="}, "r-1").image == b"\1\2"
    assert similar_content_query({"image": b"\1\2"}, "r-1").image == b"\1\2"
    assert fields_of(similar_items_query, {}) == ["item_id"]
    assert fields_of(similar_items_query, {"item_id": "a", "by": "sound"}) == ["by"]
    assert fields_of(similar_content_query, {}) == ["body"]
    assert fields_of(similar_content_query, {"text": "", "image": ""}) == ["body"]
    assert fields_of(similar_content_query, {"image": "a picture"}) == ["image"]
    assert fields_of(similar_content_query, {"image": 5}) == ["image"]
    assert fields_of(similar_content_query, {"image": bytes((1 << 20) + 1)}) == ["image"]
    assert fields_of(similar_content_query, {"text": "x" * 10_000}) == ["text"]


def test_popular():
    asked = popular_query({"k": 3, "category": "Mice", "window_s": 3600, "metadata": True}, "r-1")
    assert asked == PopularQuery(3, "r-1", "Mice", 3600.0, with_metadata=True)
    assert popular_query({}, "r-1") == PopularQuery(20, "r-1")
    assert fields_of(popular_query, {"window_s": 0}) == ["window_s"]
