"""REST and gRPC are one service: the same answer, whatever is asked."""

import base64
import io
import time
from urllib.parse import quote

import grpc
import httpx
import pytest
from hypothesis import HealthCheck
from PIL import Image

from protos import recommender_pb2 as pb
from service.domain import MAX_EVENTS
from service.rest import schemas

KNOWN = "shopper-003"
QUICK = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def picture(colour=(200, 30, 40)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), colour).save(file, "PNG")
    return file.getvalue()


QUESTIONS = {
    "k": {"user_id": KNOWN, "k": 7},
    "offset": {"user_id": KNOWN, "k": 5, "offset": 5},
    "a filter": {"user_id": KNOWN, "k": 9, "filter": 'category: ANY("kind 3", "kind 5")'},
    "a filter on an attribute": {"user_id": KNOWN, "k": 9, "filter": 'size: ANY("S") AND NOT colour: ANY("jade")'},
    "a filter that few pass": {"user_id": KNOWN, "k": 9, "filter": 'item_id: ANY("item-0001", "item-0002")'},
    "a filter that may be relaxed": {
        "user_id": KNOWN,
        "k": 9,
        "filter": 'item_id: ANY("item-0001")',
        "strict_filtering": False,
    },
    "a history": {"user_id": "nobody", "k": 9, "history": [{"item_id": "item-0001", "kind": "purchase"}]},
    "seed items": {"k": 9, "seed_items": ["item-0001", "item-0002"]},
    "a category": {"category": "kind 4", "k": 9},
    "an unknown user": {"user_id": "nobody", "k": 9},
    "rules": {
        "user_id": KNOWN,
        "k": 9,
        "rules": {
            "pin": ["item-0100"],
            "boost": [{"filter": 'category: ANY("kind 2")', "strength": 0.5}],
            "bury": [{"item_ids": ["item-0150"], "strength": 1}],
            "hide": ["item-0151"],
        },
    },
    "weights": {"user_id": KNOWN, "k": 9, "modality_weights": {"look": 1, "meaning": 0.5, "behaviour": 0.25}},
    "diversity": {"user_id": KNOWN, "k": 9, "diversity": 0.75},
    "what was seen": {"user_id": KNOWN, "k": 9, "exclude_seen": False},
    "reasons": {"user_id": KNOWN, "k": 9, "explain": True},
    "metadata": {"user_id": KNOWN, "k": 9, "metadata": True},
    "items that no one knows": {"user_id": "nobody", "seed_items": ["no such item"], "k": 9},
    "a deadline": {"user_id": KNOWN, "k": 11, "deadline_ms": 30_000},
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_recommend(both, name):
    body = QUESTIONS[name]
    answer = both.ask(("POST", "/v1/recommend", body), ("Recommend", body))
    assert answer["items"]
    assert len(answer["items"]) <= body["k"]
    first = body.get("offset", 0) + 1
    assert [item["rank"] for item in answer["items"]] == list(range(first, first + len(answer["items"])))


def test_each_rung_is_named(both):
    rungs = {
        "k": "personal",
        "a history": "session",
        "seed items": "seed",
        "a category": "category_popular",
        "an unknown user": "popular",
    }
    for name, rung in rungs.items():
        assert both.rest("POST", "/v1/recommend", QUESTIONS[name])["strategy"] == rung, name


def test_what_was_asked_for_is_there(both):
    ask = {name: both.rest("POST", "/v1/recommend", body) for name, body in QUESTIONS.items()}
    assert ask["offset"]["items"][0]["item_id"] not in {item["item_id"] for item in ask["k"]["items"][:5]}
    assert ask["rules"]["items"][0]["item_id"] == "item-0100"
    assert {reason["kind"] for reason in ask["reasons"]["items"][0]["reasons"]} >= {"history"}
    assert ask["metadata"]["items"][0]["metadata"]["category"].startswith("kind ")
    assert {item["item_id"] for item in ask["a filter that few pass"]["items"]} == {"item-0001", "item-0002"}
    assert ask["a filter that few pass"]["degraded"] == ["too_few_items"]
    assert len(ask["a filter that may be relaxed"]["items"]) == 9
    assert ask["a filter that may be relaxed"]["degraded"] == ["filter_relaxed"]


@pytest.mark.parametrize(
    ("rest", "rpc"),
    [
        (("GET", "/v1/items/item-0004/similar?k=5"), ("SimilarItems", {"item_id": "item-0004", "k": 5})),
        *(
            (
                ("GET", f"/v1/items/item-0004/similar?by={by}&k=5&metadata=true"),
                ("SimilarItems", {"item_id": "item-0004", "by": by, "k": 5, "metadata": True}),
            )
            for by in ("look", "meaning", "behaviour", "blend")
        ),
        (
            ("GET", "/v1/items/item-0004/similar?look=1&meaning=0.5&filter=" + quote('size: ANY("S")')),
            (
                "SimilarItems",
                {"item_id": "item-0004", "modality_weights": {"look": 1, "meaning": 0.5}, "filter": 'size: ANY("S")'},
            ),
        ),
        (("POST", "/v1/similar", {"text": "coral", "k": 5}), ("SimilarByContent", {"text": "coral", "k": 5})),
        (
            ("POST", "/v1/similar", {"image": base64.b64encode(picture()).decode(), "k": 5}),
            ("SimilarByContent", pb.SimilarByContentRequest(image=picture(), k=5)),
        ),
        (("GET", "/v1/popular?k=5"), ("Popular", {"k": 5})),
        (("GET", "/v1/popular?k=5&category=kind%204"), ("Popular", {"k": 5, "category": "kind 4"})),
        (
            ("POST", "/v1/rerank", {"user_id": KNOWN, "item_ids": ["item-0009", "item-0001", "nothing", "item-0500"]}),
            ("Rerank", {"user_id": KNOWN, "item_ids": ["item-0009", "item-0001", "nothing", "item-0500"]}),
        ),
    ],
)
def test_other_questions(both, rest, rpc):
    assert both.ask(rest, rpc)["items"]


def test_a_batch(both):
    bodies = [*QUESTIONS.values(), {"user_id": KNOWN, "k": 0}, {"user_id": KNOWN, "filter": "price <"}]
    answers = both.ask(("POST", "/v1/recommend:batch", {"requests": bodies}), ("BatchRecommend", {"requests": bodies}))[
        "answers"
    ]
    assert [set(answer) for answer in answers] == [{"recommendation"}] * len(QUESTIONS) + [{"error"}] * 2
    for body, answer in zip(bodies, answers[:-2], strict=False):
        alone = both.rest("POST", "/v1/recommend", body)
        ids = [item["item_id"] for item in answer["recommendation"]["items"]]
        assert ids == [item["item_id"] for item in alone["items"]]


def test_get_and_post_are_one(both):
    got = both.rest("GET", f"/recommend?user_id={KNOWN}&k=9&explain=true")
    assert got == both.rest("POST", "/v1/recommend", {"user_id": KNOWN, "k": 9, "explain": True})


def test_events_count_once_whatever_brought_them(both):
    def event(number):
        return {"event_id": f"once-{number}", "user_id": "a shopper", "item_id": f"item-{number:04d}", "kind": "click"}

    first = both.rest("POST", "/v1/events", {"events": [event(n) for n in range(3)]})
    again = both.rpc("WriteEvents", {"events": [event(n) for n in range(1, 4)]})
    assert (first["accepted"], first["duplicates"]) == (3, 0)
    assert (again["accepted"], again["duplicates"]) == (1, 2)
    body = {"user_id": "a shopper", "k": 5}
    assert both.ask(("POST", "/v1/recommend", body), ("Recommend", body))["strategy"] == "session"


def test_a_live_item_is_the_same_from_both(both):
    item = {"item_id": "new/1", "title": "coral", "category": "kind 2", "price": 5.5, "attributes": {"size": "S"}}
    rest = {name: value for name, value in item.items() if name != "item_id"}
    assert both.rest("PUT", "/v1/items/new%2F1", rest) == {"accepted": 1, "not_embedded": []}
    assert both.rpc("UpsertItems", {"items": [item | {"item_id": "new/2"}]}) == {"accepted": 1, "not_embedded": []}
    shown = both.ask(
        ("GET", "/v1/popular?k=200&metadata=true&filter=" + quote('item_id: ANY("new/1", "new/2")')),
        ("Popular", {"k": 200, "metadata": True, "filter": 'item_id: ANY("new/1", "new/2")'}),
    )["items"]
    assert {one["item_id"] for one in shown} == {"new/1", "new/2"}
    assert all(one["metadata"]["price"] == 5.5 for one in shown)
    assert both.rpc("PatchItems", {"items": [{"item_id": "new/1", "hidden": True}]})["accepted"] == 1
    assert both.rest("DELETE", "/v1/items/new%2F2")["accepted"] == 1
    assert (
        both.ask(
            ("GET", "/v1/popular?filter=" + quote('item_id: ANY("new/1", "new/2")')),
            ("Popular", {"filter": 'item_id: ANY("new/1", "new/2")'}),
        )["items"]
        == []
    )


def test_every_shopper_gets_the_same_on_both(both, world):
    for user_id in world.user_ids[::4]:
        answer = both.ask(
            ("POST", "/v1/recommend", {"user_id": user_id, "k": 50}), ("Recommend", {"user_id": user_id, "k": 50})
        )
        assert answer["strategy"] in ("personal", "popular")


def test_an_answer_that_is_not_cached_is_the_same_too(serve, wire, bundle_root, tmp_path, world):
    """A process for each transport, so that the one's answer cannot be the other's from the cache."""
    flags = ("--bundles", str(bundle_root), "--events-dir", str(tmp_path))
    bodies = [body | {"user_id": user} for body, user in zip(QUESTIONS.values(), world.user_ids, strict=False)]
    with serve(*flags) as served, httpx.Client(base_url=served.rest, timeout=30) as http:
        responses = [http.post("/v1/recommend", json=body) for body in bodies]
        assert not any(response.json()["cached"] for response in responses)
    with serve(*flags) as served, grpc.insecure_channel(served.grpc) as channel:
        both = wire.Both(http, channel)
        assert [wire.of_rest(response) for response in responses] == [both.rpc("Recommend", body) for body in bodies]


def test_the_largest_call_is_taken(both):
    events = [{"event_id": f"many-{n}", "user_id": f"u-{n}", "item_id": "x", "kind": "view"} for n in range(MAX_EVENTS)]
    began = time.monotonic()
    assert both.rest("POST", "/v1/events", {"events": events})["accepted"] == MAX_EVENTS
    assert both.rpc("WriteEvents", {"events": events})["duplicates"] == MAX_EVENTS
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (pb.RecommendResponse, schemas.RecommendationBody),
        (pb.RecommendedItem, schemas.RecommendedItemBody),
        (pb.Reason, schemas.ReasonBody),
        (pb.Metadata, schemas.MetadataBody),
        (pb.BatchRecommendResponse, schemas.BatchBody),
        (pb.BatchOutcome, schemas.OutcomeBody),
        (pb.ItemList, schemas.ItemListBody),
        (pb.EventsReceipt, schemas.EventsReceiptBody),
        (pb.ItemsReceipt, schemas.ItemsReceiptBody),
        (pb.BundleStates, schemas.BundlesBody),
        (pb.BundleShare, schemas.BundlePartBody),
        (pb.FieldError, schemas.FieldBody),
        (pb.GetModelResponse, schemas.ModelBody),
        (pb.Index, schemas.IndexBody),
        (pb.Evaluation, schemas.EvaluationBody),
    ],
    ids=lambda value: value.__name__,
)
def test_the_field_names_are_one_set(message, body):
    assert [field.name for field in message.DESCRIPTOR.fields] == list(body.model_fields)
