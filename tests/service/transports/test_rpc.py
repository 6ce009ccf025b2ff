"""gRPC over a real port: answers, rich errors, health, reflection, deadlines, draining."""

import contextlib

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from prometheus_client.parser import text_string_to_metric_families

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import RecommendationServiceStub
from service.admin import Admin
from service.domain import MAX_ID_BYTES, MAX_K
from service.engine import Engines
from service.rpc.admin_servicer import AdminServicer
from service.rpc.health import SERVICE_NAME
from service.rpc.servicer import RecommendationServicer

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def channel(served):
    with grpc.insecure_channel(served.grpc) as channel:
        yield channel


@pytest.fixture
def stub(channel):
    return RecommendationServiceStub(channel)


def details(error) -> dict[type, object]:
    """The rich status's details by their type."""
    status = rpc_status.from_call(error)
    assert status.code == error.code().value[0]
    found = {}
    for part in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo, RequestInfo):
            message = kind()
            if part.Unpack(message):
                found[kind] = message
    return found


def call_counts(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["route"].rpartition("/")[2], sample.labels["status"], sample.labels["strategy"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "plotpointe_request_duration_seconds_count"
    }


def test_recommend_answers_as_the_reference(stub, world, served):
    answer = stub.Recommend(pb.RecommendRequest(user_id="shopper-005", k=10))
    item_ids, scores = world.recommend("shopper-005", 10)
    assert [item.item_id for item in answer.items] == item_ids
    assert [item.score for item in answer.items] == pytest.approx(scores, rel=1e-4)
    assert [item.rank for item in answer.items] == list(range(1, 11))
    assert (answer.strategy, answer.user_id, answer.bundle_version) == ("personal", "shopper-005", served.version)


def test_an_absent_k_is_20(stub):
    assert len(stub.Recommend(pb.RecommendRequest(user_id="shopper-005")).items) == 20


def test_get_model(stub, manifest):
    model = stub.GetModel(pb.GetModelRequest())
    assert (model.version, model.num_items, model.as_of) == (manifest.version, manifest.num_items, manifest.as_of)
    assert dict(model.index.recall_at) == manifest.index.recall_at
    assert set(model.parity_max_abs_diff) == set(manifest.models)


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.RecommendRequest(), ["user_id"]),
        (pb.RecommendRequest(user_id="", k=0), ["user_id", "k"]),
        (pb.RecommendRequest(user_id="a", k=0), ["k"]),
        (pb.RecommendRequest(user_id="a", k=-1), ["k"]),
        (pb.RecommendRequest(user_id="a", k=MAX_K + 1), ["k"]),
        (pb.RecommendRequest(user_id="ü" * (MAX_ID_BYTES // 2 + 1)), ["user_id"]),
    ],
)
def test_a_bad_request_names_its_fields(stub, request_, fields):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(request_, metadata=(("x-request-id", "r-7"),))
    error = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(error)[ErrorInfo].reason == "INVALID_ARGUMENT"
    assert details(error)[RequestInfo].request_id == "r-7"
    assert [fault.field for fault in details(error)[BadRequest].field_violations] == fields
    assert dict(error.trailing_metadata())["x-request-id"] == "r-7"


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7fa"])
def test_bytes_that_are_no_message_are_refused(channel, raw):
    send = channel.unary_unary(f"/{SERVICE_NAME}/Recommend")
    with pytest.raises(grpc.RpcError) as caught:
        send(raw)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)[ErrorInfo].reason == "INVALID_ARGUMENT"


@pytest.mark.parametrize("size", [(1 << 20) + 1, 3 << 20])
def test_a_message_that_is_too_large_is_refused(channel, size):
    send = channel.unary_unary(f"/{SERVICE_NAME}/Recommend")
    with pytest.raises(grpc.RpcError) as caught:
        send(b"x" * size)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    if size < 2 << 20:  # beyond it gRPC itself refuses, before there is anything to give a reason
        assert details(caught.value)[ErrorInfo].reason == "REQUEST_TOO_LARGE"


@pytest.mark.parametrize("method", [f"/{SERVICE_NAME}/RecommendEverything", "/other.Service/Recommend"])
def test_an_unknown_method_is_unimplemented(channel, method):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert details(caught.value)[ErrorInfo].reason == "UNIMPLEMENTED"


def test_a_request_id_is_echoed_or_made(stub):
    _, call = stub.Recommend.with_call(pb.RecommendRequest(user_id="a"), metadata=(("x-request-id", "r-8"),))
    assert dict(call.trailing_metadata())["x-request-id"] == "r-8"
    _, call = stub.Recommend.with_call(pb.RecommendRequest(user_id="a"), metadata=(("x-request-id", "has blank"),))
    assert len(dict(call.trailing_metadata())["x-request-id"]) == 32


@pytest.mark.parametrize("servicer", [RecommendationServicer(Engines({})), AdminServicer(Admin({}, None))])
def test_every_method_of_the_contract_is_handled(metrics, servicer):
    handlers = servicer.handlers(metrics)
    methods = pb.DESCRIPTOR.services_by_name[handlers.service_name().rpartition(".")[2]].methods_by_name
    assert {name.rpartition("/")[2] for name in handlers._method_handlers} == set(methods)


def test_calls_of_every_status_are_timed(stub, channel, served):
    before = call_counts(served.get("/metrics").text)
    stub.Recommend(pb.RecommendRequest(user_id="shopper-001"))
    stub.Recommend(pb.RecommendRequest(user_id="nobody-special"))
    for ask in (lambda: stub.Recommend(pb.RecommendRequest()), lambda: channel.unary_unary("/no/Such")(b"")):
        with contextlib.suppress(grpc.RpcError):
            ask()
    after = call_counts(served.get("/metrics").text)
    grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    assert grown.pop(("metrics", "200", "")) == 1
    assert grown == {
        ("Recommend", "OK", "personal"): 1,
        ("Recommend", "OK", "popular"): 1,
        ("Recommend", "INVALID_ARGUMENT", ""): 1,
        ("unmatched", "UNIMPLEMENTED", ""): 1,
    }


def test_health_by_name(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE_NAME):
        assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest(service=name))
        assert next(watch).status == SERVING
        watch.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="else"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = health.Watch(health_pb2.HealthCheckRequest(service="else"))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def reflected(channel, **ask):
    info = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    return next(iter(info(iter([reflection_pb2.ServerReflectionRequest(**ask)]))))


def test_reflection_describes_the_contract(channel):
    services = reflected(channel, list_services="").list_services_response.service
    assert {SERVICE_NAME, "grpc.health.v1.Health"} <= {service.name for service in services}
    raw = reflected(channel, file_containing_symbol=SERVICE_NAME).file_descriptor_response.file_descriptor_proto[0]
    assert FileDescriptorProto.FromString(raw).service[0].method[0].name == "Recommend"


def test_reflection_can_be_turned_off(serve, bundle_root, tmp_path):
    flags = ("--bundles", str(bundle_root), "--events-dir", str(tmp_path), "--no-grpc-reflection")
    with serve(*flags) as served, grpc.insecure_channel(served.grpc) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            reflected(channel, list_services="")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        answer = RecommendationServiceStub(channel).Recommend(pb.RecommendRequest(user_id="a"))
        assert answer.strategy == "popular"
