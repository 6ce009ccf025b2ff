"""REST and gRPC are one service: the same answer, the same refusal, whatever is asked."""

import grpc
import httpx
import orjson
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import RecommendationServiceStub
from service.rest.schemas import ModelBody, RecommendationBody, RecommendedItemBody


@pytest.fixture(scope="module")
def ask_both(served):
    """(user_id, k) -> the outcome over REST and over gRPC, in one form."""
    with grpc.insecure_channel(served.grpc) as channel, httpx.Client(base_url=served.rest) as http:
        stub = RecommendationServiceStub(channel)

        def ask(user_id: str, k: int | None):
            query = {"user_id": user_id} | ({} if k is None else {"k": str(k)})
            rest = http.get("/recommend", params=query)
            try:
                return of_rest(rest), of_message(stub.Recommend(pb.RecommendRequest(user_id=user_id, k=k)))
            except grpc.RpcError as error:
                return of_rest(rest), of_error(error)

        yield ask


def of_rest(response: httpx.Response) -> dict:
    body = orjson.loads(response.content)
    if response.status_code != 200:
        return {"reason": body["reason"], "fields": [(fault["field"], fault["message"]) for fault in body["errors"]]}
    return {name: body[name] for name in ("user_id", "items", "strategy", "bundle_version", "degraded")}


def of_message(answer: pb.RecommendResponse) -> dict:
    items = [
        {"item_id": item.item_id, "rank": item.rank, "score": item.score, "title": item.title} for item in answer.items
    ]
    return {
        "user_id": answer.user_id,
        "items": items,
        "strategy": answer.strategy,
        "bundle_version": answer.bundle_version,
        "degraded": list(answer.degraded),
    }


def of_error(error: grpc.RpcError) -> dict:
    info, bad = ErrorInfo(), BadRequest()
    for part in rpc_status.from_call(error).details:
        part.Unpack(info)
        part.Unpack(bad)
    return {"reason": info.reason, "fields": [(fault.field, fault.description) for fault in bad.field_violations]}


def test_every_shopper_gets_the_same_on_both(ask_both, world):
    for user_id in world.user_ids:
        rest, rpc = ask_both(user_id, 50)
        assert rest == rpc
        assert rest["strategy"] in ("personal", "popular")


def test_an_answer_that_is_not_cached_is_the_same_too(serve, bundle_root, tmp_path, world):
    """A process for each transport, so that the one's answer cannot be the other's from the cache."""
    flags = ("--bundles", str(bundle_root), "--events-dir", str(tmp_path))
    users = world.user_ids[:40]
    with serve(*flags) as served, httpx.Client(base_url=served.rest) as http:
        responses = [http.get("/recommend", params={"user_id": user_id}) for user_id in users]
        rest = [of_rest(response) for response in responses]
        assert not any(response.json()["cached"] for response in responses[:10])
    with serve(*flags) as served, grpc.insecure_channel(served.grpc) as channel:
        stub = RecommendationServiceStub(channel)
        answers = [stub.Recommend(pb.RecommendRequest(user_id=user_id)) for user_id in users]
        assert not any(answer.cached for answer in answers[:10])
    assert rest == [of_message(answer) for answer in answers]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    user_id=st.one_of(st.text(max_size=20), st.text(min_size=200, max_size=600), st.just("shopper-001")),
    k=st.one_of(st.none(), st.integers(-2, 220), st.integers(-(2**31), 2**31 - 1)),
)
def test_any_request_has_one_outcome(ask_both, user_id, k):
    rest, rpc = ask_both(user_id, k)
    assert rest == rpc
    assert "items" in rest or rest["fields"]


def test_the_field_names_are_one_set():
    for message, body in (
        (pb.RecommendResponse, RecommendationBody),
        (pb.RecommendedItem, RecommendedItemBody),
        (pb.GetModelResponse, ModelBody),
    ):
        assert [field.name for field in message.DESCRIPTOR.fields] == list(body.model_fields)
