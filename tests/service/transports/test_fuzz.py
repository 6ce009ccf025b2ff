"""Nothing that can be sent makes the service fail, hang or grow: every refusal is one that it means."""

import base64
import io
import struct
import time
import zlib
from pathlib import Path
from urllib.parse import quote

import grpc
import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from protos import recommender_pb2 as pb
from service.domain import MAX_EVENTS
from service.rest.schemas import ProblemBody

QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck)}
MEANT = {501, 503, 504}
"""Answers of the service itself that are 500 or more: no encoder, overloaded, late."""
MEANT_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
}
METHODS = [
    (f"/plotpointe.v1.{service.name}/{method.name}", getattr(pb, method.input_type.name))
    for service in pb.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
PATIENCE_S = 20
"""Longest that one call may take on the slowest machine; a hang is found by it."""


@pytest.fixture(scope="module")
def fuzzed(serve, bundle_root, tmp_path_factory):
    """A service of its own: what is put into it here is nobody else's."""
    with serve("--bundles", str(bundle_root), "--events-dir", str(tmp_path_factory.mktemp("events"))) as served:
        yield served


@pytest.fixture(scope="module")
def http(fuzzed):
    with httpx.Client(base_url=fuzzed.rest, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def channel(fuzzed):
    with grpc.insecure_channel(fuzzed.grpc) as channel:
        yield channel


def memory_mib(served) -> float:
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_anything_like_openapi_says_is_answered_as_it_says(fuzzed):
    api = schemathesis.openapi.from_dict(fuzzed.get("/openapi.json").json())
    operations = [result.ok() for result in api.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @settings(max_examples=10, **QUICK)
        @given(case=operation.as_strategy())
        def ask(case):
            response = case.call(base_url=fuzzed.rest, timeout=PATIENCE_S)
            assert response.status_code < 500 or response.status_code in MEANT, response.text
            if response.status_code >= 400:
                ProblemBody.model_validate_json(response.content)
            else:
                case.validate_response(response, checks=[schemathesis.checks.response_schema_conformance])

        ask()


def call(channel, path: str, raw: bytes) -> grpc.StatusCode:
    began = time.monotonic()
    try:
        channel.unary_unary(path)(raw, timeout=PATIENCE_S)
        code = grpc.StatusCode.OK
    except grpc.RpcError as error:
        code = error.code()
    assert time.monotonic() - began < PATIENCE_S
    return code


@pytest.mark.parametrize(("path", "kind"), METHODS, ids=[path.rpartition("/")[2] for path, _ in METHODS])
def test_any_message_is_answered_or_refused(channel, wire, path, kind):
    @settings(max_examples=25, **QUICK)
    @given(message=wire.messages(kind.DESCRIPTOR), noise=st.binary(max_size=200))
    def ask(message, noise):
        assert call(channel, path, message.SerializeToString()) in {grpc.StatusCode.OK, *MEANT_CODES}
        assert call(channel, path, noise) in {grpc.StatusCode.OK, *MEANT_CODES}

    ask()


@settings(max_examples=40, **QUICK)
@given(
    path=st.binary(max_size=20),
    query=st.binary(max_size=20),
    body=st.binary(max_size=99),
    start=st.sampled_from(["", "items/", "bundles/", "items:", "recommend?"]),
)
def test_any_path_is_answered_or_refused(fuzzed, http, path, query, body, start):
    for method in ("GET", "POST", "PUT", "DELETE"):
        response = http.request(method, f"/v1/{start}{quote(path)}?{quote(query, safe='=&')}", content=body)
        assert response.status_code < 500 or response.status_code in MEANT


@settings(max_examples=40, **QUICK)
@given(item_id=st.text(min_size=1, max_size=60))
def test_any_item_id_goes_in_and_comes_out(http, item_id):
    path = "/v1/items/" + "".join(f"%{byte:02X}" for byte in item_id.encode())
    assert http.put(path, json={"title": "coral"}).status_code == 200
    quoted = item_id.replace("\\", "\\\\").replace('"', '\\"')
    answer = http.get("/v1/popular", params={"filter": f'item_id: ANY("{quoted}")'})
    assert [item["item_id"] for item in answer.json()["items"]] == [item_id]
    assert http.delete(path).status_code == 200


def bomb() -> bytes:
    """A PNG of some kilobytes that says it has 2.5 billion pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def flat_bomb() -> bytes:
    """A picture that is whole, and larger than any that is read."""
    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("picture", [bomb(), flat_bomb(), b"", b"\xff\xd8\xff", bytes(1 << 20)], ids=range(5))
def test_pictures_that_are_bombs(fuzzed, http, channel, picture):
    before = memory_mib(fuzzed)
    body = {"image": base64.b64encode(picture).decode()}
    for method, path in (("POST", "/v1/similar"), ("PUT", "/v1/items/bomb")):
        response = http.request(method, path, json=body)
        assert response.status_code == (400 if picture or method == "POST" else 200), response.text
    code = call(channel, METHODS[5][0], pb.SimilarByContentRequest(image=picture).SerializeToString())
    assert METHODS[5][0].endswith("/SimilarByContent")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert memory_mib(fuzzed) - before < 64


def test_a_million_events_are_refused_early(fuzzed, channel):
    event = b'{"event_id":"e","user_id":"u","item_id":"i","kind":"view"}'
    body = b'{"events":[' + b",".join([event] * 1_000_000) + b"]}"
    before, began = memory_mib(fuzzed), time.monotonic()
    for content in (body, (body[start : start + 65_536] for start in range(0, len(body), 65_536))):
        try:
            response = httpx.post(fuzzed.rest + "/v1/events", content=content, timeout=PATIENCE_S)
        except httpx.WriteError:  # the connection was closed while the rest was being sent
            continue
        assert response.status_code == 413
        assert response.json()["reason"] == "REQUEST_TOO_LARGE"
    message = pb.WriteEventsRequest(events=[pb.FeedbackEvent(event_id="e")]).SerializeToString() * 1_000_000
    assert (
        call(channel, "/plotpointe.v1.RecommendationService/WriteEvents", message) is grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    assert time.monotonic() - began < PATIENCE_S
    assert memory_mib(fuzzed) - before < 64
    one_more = {"events": [{"event_id": str(n), "user_id": "u", "item_id": "i", "kind": "view"} for n in range(1001)]}
    refused = httpx.post(fuzzed.rest + "/v1/events", json=one_more, timeout=PATIENCE_S)
    assert refused.json()["detail"] == f"events must hold at most {MAX_EVENTS} entries (it holds 1001)"


def test_the_service_is_well_after_all_that(fuzzed):
    assert fuzzed.get("/readyz").json()["ready"]
    assert len(fuzzed.get("/recommend?user_id=shopper-003&k=5").json()["items"]) == 5
    assert memory_mib(fuzzed) < 600
