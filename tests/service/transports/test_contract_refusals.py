"""REST and gRPC refuse the same things with the same words, and any request has one outcome."""

import base64

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos import recommender_pb2 as pb

KNOWN = "shopper-003"
QUICK = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


REFUSALS = {
    "no user": ({}, "INVALID_ARGUMENT", "user_id"),
    "k of 0": ({"user_id": "u", "k": 0}, "INVALID_ARGUMENT", "k"),
    "k below 0": ({"user_id": "u", "k": -1}, "INVALID_ARGUMENT", "k"),
    "a huge k": ({"user_id": "u", "k": 10**9}, "INVALID_ARGUMENT", "k"),
    "a huge id": ({"user_id": "ü" * 5120}, "INVALID_ARGUMENT", "user_id"),
    "half a filter": ({"user_id": "u", "filter": "price < "}, "INVALID_ARGUMENT", "filter"),
    "a filter on nothing": ({"user_id": "u", "filter": 'shape: ANY("round")'}, "INVALID_ARGUMENT", "filter"),
    "a deep filter": ({"user_id": "u", "filter": "(" * 1000 + "price < 5" + ")" * 1000}, "INVALID_ARGUMENT", "filter"),
    "a long filter": ({"user_id": "u", "filter": "NOT " * 5000}, "INVALID_ARGUMENT", "filter"),
    "an unknown kind": (
        {"user_id": "u", "history": [{"item_id": "a", "kind": "look"}]},
        "INVALID_ARGUMENT",
        "history[0].kind",
    ),
    "weights of 0": ({"user_id": "u", "modality_weights": {}}, "INVALID_ARGUMENT", "modality_weights"),
    "a bundle that is not loaded": ({"user_id": "u", "bundle_version": "v0"}, "BUNDLE_MISSING", ""),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(both, name):
    body, reason, field = REFUSALS[name]
    refused = both.ask(("POST", "/v1/recommend", body), ("Recommend", body))
    assert refused["reason"] == reason
    assert [fault[0] for fault in refused["faults"]] == ([field] if field else [])


def test_a_filter_s_refusal_says_where(both):
    [(_, message)] = both.rest("POST", "/v1/recommend", {"user_id": "u", "filter": "price < 5 AND"})["faults"]
    assert "column 14" in message


@pytest.mark.parametrize(
    ("rest", "rpc", "reason"),
    [
        (("GET", "/v1/items/nothing/similar"), ("SimilarItems", {"item_id": "nothing"}), "ITEM_NOT_FOUND"),
        (
            ("PATCH", "/v1/items/nothing", {"price": 1}),
            ("PatchItems", {"items": [{"item_id": "nothing", "price": 1}]}),
            "ITEM_NOT_FOUND",
        ),
        (
            ("POST", "/v1/similar", {"image": base64.b64encode(b"GIF89a not").decode()}),
            ("SimilarByContent", pb.SimilarByContentRequest(image=b"GIF89a not")),
            "INVALID_IMAGE",
        ),
        (("POST", "/v1/events", {"events": []}), ("WriteEvents", {}), "INVALID_ARGUMENT"),
        (
            ("POST", "/v1/items:batch", {"upsert": [{"item_id": "a"}] * 2}),
            ("UpsertItems", {"items": [{"item_id": "a"}] * 2}),
            "INVALID_ARGUMENT",
        ),
    ],
)
def test_other_refusals(both, rest, rpc, reason):
    assert both.rest(*rest)["reason"] == both.rpc(*rpc)["reason"] == reason


def test_an_unknown_tenant_is_refused(both):
    body = {"user_id": "u"}
    refused = both.ask(("POST", "/v1/recommend", body), ("Recommend", body), x_plotpointe_tenant="another")
    assert refused["reason"] == "TENANT_NOT_FOUND"
    odd = both.ask(("POST", "/v1/recommend", body), ("Recommend", body), x_plotpointe_tenant="An Other")
    assert odd["reason"] == "INVALID_ARGUMENT"
    assert both.ask(("GET", "/v1/model"), ("GetModel",), x_plotpointe_tenant="default")["num_items"] == 600


def test_bundles_need_the_key(both, served, admin_key):
    key = {"authorization": f"Bearer {admin_key}"}
    states = both.ask(("GET", "/v1/bundles"), ("ListBundles",), **key)
    assert (states["serving"], states["state"]) == (served.version, "ok")
    assert states["available"] == [served.version]
    for rest, rpc in (
        (("GET", "/v1/bundles"), ("ListBundles",)),
        (("POST", "/v1/bundles/v9:activate"), ("ActivateBundle", {"version": "v9"})),
        (("POST", "/v1/bundles:rollback"), ("RollbackBundle",)),
        (
            ("PUT", "/v1/bundles:canary", {"version": "v9", "share": 0.5}),
            ("SetCanary", {"version": "v9", "share": 0.5}),
        ),
        (
            ("PUT", "/v1/bundles:shadow", {"version": "v9", "share": 0.5}),
            ("SetShadow", {"version": "v9", "share": 0.5}),
        ),
    ):
        assert both.ask(rest, rpc)["reason"] == "UNAUTHENTICATED"
        assert both.ask(rest, rpc, authorization="Bearer wrong")["reason"] == "UNAUTHENTICATED"
        if rest[0] != "GET":
            assert both.ask(rest, rpc, **key)["reason"] == "BUNDLE_MISSING"
    odd = both.ask(("POST", "/v1/bundles/..%2fx:activate"), ("ActivateBundle", {"version": "../x"}), **key)
    assert odd["faults"][0][0] == "version"


def test_without_encoders_contents_are_not_searched(serve, wire, planted, world, tmp_path):
    planted.publish(world, tmp_path / "bundles", encoders=False)
    flags = ("--bundles", str(tmp_path / "bundles"), "--events-dir", str(tmp_path / "events"))
    with (
        serve(*flags) as served,
        grpc.insecure_channel(served.grpc) as channel,
        httpx.Client(base_url=served.rest, timeout=30) as http,
    ):
        both = wire.Both(http, channel)
        refused = both.ask(("POST", "/v1/similar", {"text": "coral"}), ("SimilarByContent", {"text": "coral"}))
        assert http.post("/v1/similar", json={"text": "coral"}).status_code == 501
    assert refused["reason"] == "ENCODER_UNAVAILABLE"


@settings(max_examples=80, **QUICK)
@given(
    user_id=st.one_of(st.text(max_size=20), st.text(min_size=200, max_size=600), st.just(KNOWN)),
    k=st.one_of(st.none(), st.integers(-2, 220), st.integers(-(2**31), 2**31 - 1)),
)
def test_any_request_has_one_outcome(both, user_id, k):
    body = {"user_id": user_id} | ({} if k is None else {"k": k})
    outcome = both.ask(("GET", "/recommend?" + str(httpx.QueryParams(body))), ("Recommend", body))
    assert "items" in outcome or outcome["faults"]


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/v1/recommend", "Recommend", pb.RecommendRequest),
        ("/v1/recommend:batch", "BatchRecommend", pb.BatchRecommendRequest),
        ("/v1/rerank", "Rerank", pb.RerankRequest),
        ("/v1/similar", "SimilarByContent", pb.SimilarByContentRequest),
    ],
)
def test_any_message_has_one_outcome(both, wire, path, name, kind):
    @settings(max_examples=40, **QUICK)
    @given(message=wire.messages(kind.DESCRIPTOR))
    def ask(message):
        for each in (message, *getattr(message, "requests", ())):
            if "deadline_ms" in each.DESCRIPTOR.fields_by_name:
                each.ClearField("deadline_ms")  # what is done in time is a matter of time
        words = MessageToDict(message, preserving_proto_field_name=True)
        assert both.ask(("POST", path, words), (name, message))

    ask()
