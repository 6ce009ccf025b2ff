"""REST over a real port: answers, headers, and every kind of bad request."""

import asyncio
import re
import socket
from urllib.parse import quote, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from service.admin import Admin
from service.domain import MAX_ID_BYTES, MAX_K, Query, Recommendation
from service.engine import Engines
from service.errors import NotReadyError
from service.rest.app import build_app
from service.rest.schemas import ModelBody, ProblemBody, RecommendationBody, StatesBody


def recommend(served, query: str, **options) -> httpx.Response:
    return served.get(f"/recommend?{query}", **options)


def test_a_known_user_gets_what_the_reference_says(served, world):
    answer = RecommendationBody.model_validate_json(recommend(served, "user_id=shopper-003&k=10").content)
    item_ids, scores = world.recommend("shopper-003", 10)
    assert [item.item_id for item in answer.items] == item_ids
    assert [item.score for item in answer.items] == pytest.approx(scores, rel=1e-4)
    assert [item.rank for item in answer.items] == list(range(1, 11))
    assert (answer.strategy, answer.user_id, answer.bundle_version) == ("personal", "shopper-003", served.version)
    titles = dict(zip(world.item_ids, world.titles, strict=True))
    assert all(item.title == titles[item.item_id] for item in answer.items)


def test_an_unknown_user_gets_popular_items_and_is_told(served, world):
    answer = recommend(served, "user_id=nobody-has-seen-me&k=7").json()
    assert answer["strategy"] == "popular"
    assert [item["item_id"] for item in answer["items"]] == world.popular(7)


def test_k_is_20_where_it_is_not_given(served):
    assert len(recommend(served, "user_id=shopper-001").json()["items"]) == 20


def test_the_largest_k(served):
    answer = recommend(served, f"user_id=shopper-001&k={MAX_K}").json()
    assert len(answer["items"]) == MAX_K


@pytest.mark.parametrize(
    "user_id",
    [
        "Zoë & Söhne/42?x=%20",
        "日本語",
        "a+b c",
        "\x00\n\t",
        "🛒" * (MAX_ID_BYTES // 4),
        "%",
        "u" * MAX_ID_BYTES,
        "../..",
    ],
)
def test_any_text_is_a_user_id(served, user_id):
    response = recommend(served, f"user_id={quote(user_id, safe='')}")
    assert response.status_code == 200
    assert response.json()["user_id"] == user_id


def test_a_known_user_with_an_odd_id_is_found(served, planted):
    assert recommend(served, f"user_id={quote(planted.ODD_ID, safe='')}").json()["strategy"] == "personal"


def test_a_plus_is_a_blank_as_forms_have_it(served):
    assert recommend(served, "user_id=a+b").json()["user_id"] == "a b"


def test_the_second_answer_is_cached_and_the_same(served):
    first, second = (recommend(served, "user_id=shopper-017&k=13").json() for _ in range(2))
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["items"] == second["items"]
    assert first["recommendation_id"] != second["recommendation_id"]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", ["user_id"]),
        ("k=5", ["user_id"]),
        ("user_id=", ["user_id"]),
        ("user_id=&k=0", ["user_id", "k"]),
        (f"user_id={'u' * (MAX_ID_BYTES + 1)}", ["user_id"]),
        (f"user_id={quote('ü' * (MAX_ID_BYTES // 2 + 1))}", ["user_id"]),
        ("user_id=a&k=0", ["k"]),
        ("user_id=a&k=-1", ["k"]),
        (f"user_id=a&k={MAX_K + 1}", ["k"]),
        ("user_id=a&k=", ["k"]),
        ("user_id=a&k=ten", ["k"]),
        ("user_id=a&k=1.5", ["k"]),
        ("user_id=a&k=1e2", ["k"]),
        ("user_id=a&k=%201", ["k"]),
        ("user_id=a&k=%D9%A3", ["k"]),
        ("user_id=a&k=" + "9" * 5000, ["k"]),
        ("user_id=%FF", ["query"]),
        ("user_id=%ED%A0%80", ["query"]),
        ("user_id=a&user_id=b", ["query"]),
        ("user_id=a&n=5", ["n"]),
        ("user=a", ["user"]),
        ("&".join(f"p{n}=1" for n in range(17)), ["query"]),
    ],
)
def test_a_bad_request_names_its_fields(served, query, fields):
    response = recommend(served, query)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    problem = ProblemBody.model_validate_json(response.content)
    assert (problem.status, problem.reason) == (400, "INVALID_ARGUMENT")
    assert [fault.field for fault in problem.errors] == fields
    assert problem.request_id == response.headers["x-request-id"]
    assert problem.detail


def test_raw_bytes_in_the_query_are_refused(served):
    address = urlsplit(served.rest)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"GET /recommend?user_id=\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/recommend/", 404, "NOT_FOUND"),
        ("GET", "/v1/nothing%20here?user_id=a", 404, "NOT_FOUND"),
        ("POST", "/recommend?user_id=a", 405, "METHOD_NOT_ALLOWED"),
        ("HEAD", "/recommend?user_id=a", 405, "METHOD_NOT_ALLOWED"),
        ("PATCH", "/livez", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_routing_errors_are_problems_too(served, method, path, status, reason):
    response = httpx.request(method, served.rest + path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    if method != "HEAD":
        assert ProblemBody.model_validate_json(response.content).reason == reason
    if status == 405:
        assert "GET" in response.headers["allow"]


@pytest.mark.parametrize("path", ["/recommend?user_id=a", "/recommend", "/nowhere", "/livez", "/v1/model", "/metrics"])
def test_every_answer_has_the_headers(served, path):
    headers = served.get(path, headers={"x-request-id": "cart-42/a:b"}).headers
    assert headers["x-request-id"] == "cart-42/a:b"
    assert headers["cache-control"] == "private, no-store"
    assert re.search(r"total;dur=\d+\.\d\d$", headers["server-timing"])
    assert "server" not in headers


def test_server_timing_names_the_stages(served):
    response = recommend(served, "user_id=shopper-044&k=37")  # a k of its own: not cached
    named = {part.partition(";")[0] for part in response.headers["server-timing"].split(", ")}
    assert named == {*response.json()["timing_ms"], "total"}
    assert {"retrieve", "rerank"} < named


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "ünï", 'quote"', "new,line"])
def test_an_odd_request_id_is_replaced(served, offered):
    given = recommend(served, "user_id=a", headers={"x-request-id": offered.encode()}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", given)


def test_live_ready_and_model(served, manifest):
    assert served.get("/livez").text == "ok"
    assert httpx.head(served.rest + "/livez").status_code == 200
    ready = StatesBody.model_validate_json(served.get("/readyz").content)
    assert ready.ready
    assert ready.states["bundle"] == f"serving {served.version}"
    model = ModelBody.model_validate_json(served.get("/v1/model").content)
    assert (model.version, model.num_items) == (manifest.version, manifest.num_items)
    assert model.index.recall_at == manifest.index.recall_at


def request_counts(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["route"], sample.labels["status"], sample.labels["strategy"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "plotpointe_request_duration_seconds_count"
    }


def test_requests_of_every_status_are_timed_without_ids(served):
    before = request_counts(served.get("/metrics").text)
    for query in ("user_id=shopper-001", "user_id=nobody-special", "user_id=", "k=x"):
        recommend(served, query)
    served.get("/no/such/path-of-mine")
    httpx.post(served.rest + "/recommend")
    response = served.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    after = request_counts(response.text)
    grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    assert grown.pop(("/metrics", "200", "")) == 1
    assert grown == {
        ("/recommend", "200", "personal"): 1,
        ("/recommend", "200", "popular"): 1,
        ("/recommend", "400", ""): 2,
        ("/recommend", "405", ""): 1,
        ("unmatched", "404", ""): 1,
    }
    assert "shopper-001" not in response.text
    assert "path-of-mine" not in response.text


def test_the_bodies_are_what_the_schemas_say(served):
    body = recommend(served, "user_id=shopper-002&k=2").json()
    assert list(body) == list(RecommendationBody.model_fields)
    assert list(served.get("/v1/model").json()) == list(ModelBody.model_fields)


class Failing:
    """An engine that raises what it was given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def recommend(self, query: Query, *, transport: str) -> Recommendation:
        raise self.error


async def test_a_bug_is_a_500_that_tells_nothing_and_is_logged_once(answering, caplog):
    async with answering(Failing(ZeroDivisionError("the secret"))) as served, httpx.AsyncClient() as client:
        response = await client.get(served.rest + "/recommend?user_id=a", headers={"x-request-id": "r-1"})
    problem = ProblemBody.model_validate_json(response.content)
    assert (response.status_code, problem.reason, problem.request_id) == (500, "INTERNAL", "r-1")
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    [record] = [record for record in caplog.records if record.exc_info and record.name.startswith("service")]
    assert record.request_id == "r-1"


async def test_unavailable_says_when_to_retry(answering, metrics):
    async with answering(Failing(NotReadyError("draining"))) as served, httpx.AsyncClient() as client:
        response = await client.get(served.rest + "/recommend?user_id=a")
    assert (response.status_code, response.json()["reason"]) == (503, "NOT_READY")
    assert response.headers["retry-after"] == "1"
    assert request_counts(metrics.render().decode())["/recommend", "503", ""] == 1


async def test_not_ready_is_503_with_the_states(answering, ready):
    ready.drain()
    async with answering(Failing(NotReadyError("draining"))) as served, httpx.AsyncClient() as client:
        response = await client.get(served.rest + "/readyz")
        assert response.status_code == 503
        assert StatesBody.model_validate_json(response.content).states == {"bundle": "draining"}
        assert (await client.get(served.rest + "/livez")).status_code == 200


async def test_a_body_that_the_framework_refuses_is_a_problem_too(metrics, ready):
    envelope = build_app(Engines({}), Admin({}, None), metrics, ready)
    app = envelope._app._app
    assert isinstance(app, FastAPI)

    @app.get("/typed")
    async def typed(n: int) -> int:
        return n

    async with httpx.AsyncClient(transport=httpx.ASGITransport(envelope), base_url="http://test") as client:
        response = await client.get("/typed?n=x")
    problem = ProblemBody.model_validate_json(response.content)
    assert (response.status_code, problem.reason) == (422, "INVALID_ARGUMENT")
    assert [fault.field for fault in problem.errors] == ["n"]


async def test_many_connections_at_once(served):
    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(limits=limits, base_url=served.rest) as client:
        answers = await asyncio.gather(*(client.get(f"/recommend?user_id=shopper-{n % 100:03d}") for n in range(200)))
    assert [a.status_code for a in answers] == [200] * 200
    assert [a.json()["user_id"] for a in answers] == [f"shopper-{n % 100:03d}" for n in range(200)]
