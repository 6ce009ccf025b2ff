"""Every route and every method brings the engine the same value, and its answer back the same way."""

import asyncio
import base64
import time

import grpc
import httpx
import pytest

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import RecommendationServiceStub
from service.domain import (
    Degradation,
    EventsReceipt,
    ItemList,
    ItemsReceipt,
    Metadata,
    Reason,
    Recommendation,
    RecommendedItem,
    Strategy,
)
from service.errors import DeadlineError, OverloadedError, UnknownItemError
from service.rest import examples, plain_route
from service.rest.schemas import BatchBody, EventsReceiptBody, ItemListBody, ItemsReceiptBody, RecommendationBody

ITEMS = (
    RecommendedItem(
        "a/b",
        1,
        2.5,
        "A",
        (Reason("history", 0.75, "h", 0.5), Reason("others", 0.25, "", -0.125)),
        Metadata("Mice", None, None, "", True, {"color": "red"}),
    ),
    RecommendedItem("ü", 2, -0.25, "", (), Metadata(None, "Squeak", 3.5, "u.jpg", False)),
    RecommendedItem("c", 3, -1.0, "C"),
)
ODD = "a/b%2F?ü #\x00"
PICTURE = b"\x89PNG not"


class Recorder:
    """An engine that keeps what it is asked, and answers with every field that an answer can have."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def recommend(self, query, *, transport):
        self.asked.append(query)
        if query.user_id == "late":
            raise DeadlineError("too late")
        return Recommendation(
            "r-1", query.user_id, ITEMS, Strategy.SEED, "v1", True, (Degradation.EXPLAIN_SKIPPED,), {"cache": 0.5}
        )

    async def recommend_batch(self, queries, *, transport):
        self.asked += queries
        refusal = OverloadedError("too much", retry_after_s=2.5)
        return [refusal if q.user_id == "busy" else await self.recommend(q, transport=transport) for q in queries]

    async def rerank(self, query, *, transport):
        return await self.recommend(query, transport=transport)

    async def similar(self, query, *, transport):
        self.asked.append(query)
        if query.item_id == "gone":
            raise UnknownItemError("no item is known as 'gone'", where="item_id")
        return ItemList("r-2", ITEMS, "v1", {"similar": 0.25})

    async def popular(self, query, *, transport):
        self.asked.append(query)
        return ItemList("r-3", (), "v1", {})

    async def write_events(self, events, *, request_id):
        self.asked.append(events)
        return EventsReceipt(1, 2, 1, False)

    async def upsert_items(self, changes, *, request_id):
        self.asked.append(("upsert", changes))
        return ItemsReceipt(len(changes), 7, ("x",))

    async def patch_items(self, changes, *, request_id):
        self.asked.append(("patch", changes))
        return ItemsReceipt(len(changes), 8)

    async def delete_items(self, item_ids, *, request_id):
        self.asked.append(("delete", tuple(item_ids)))
        return ItemsReceipt(len(item_ids), 9)


ENCODED = "a%2Fb%252F%3F%C3%BC%20%23%00"
IN_BASE64 = base64.b64encode(PICTURE).decode()
WANTED = examples.RECOMMEND_REQUEST | {"deadline_ms": None}
CASES = {
    "a query string": (
        (
            "GET",
            "/recommend?user_id=u&k=3&offset=2&filter=price%20%3C%205&category=Mice&explain=true&diversity=0.5"
            "&metadata=true",
            None,
        ),
        (
            "Recommend",
            pb.RecommendRequest(
                user_id="u",
                k=3,
                offset=2,
                filter="price < 5",
                category="Mice",
                explain=True,
                diversity=0.5,
                metadata=True,
            ),
        ),
        RecommendationBody,
    ),
    "recommend": (("POST", "/v1/recommend", WANTED), ("Recommend", WANTED), RecommendationBody),
    "batch": (
        ("POST", "/v1/recommend:batch", examples.BATCH_REQUEST | {"deadline_ms": None}),
        ("BatchRecommend", examples.BATCH_REQUEST | {"deadline_ms": None}),
        BatchBody,
    ),
    "batch with a refusal of the engine": (
        ("POST", "/v1/recommend:batch", {"requests": [{"user_id": "busy"}, {"user_id": "u"}]}),
        ("BatchRecommend", {"requests": [{"user_id": "busy"}, {"user_id": "u"}]}),
        BatchBody,
    ),
    "rerank": (
        ("POST", "/v1/rerank", examples.RERANK_REQUEST),
        ("Rerank", examples.RERANK_REQUEST),
        RecommendationBody,
    ),
    "similar items": (
        ("GET", f"/v1/items/{ENCODED}/similar?by=look&k=4&filter=price%3E1&metadata=true", None),
        ("SimilarItems", {"item_id": ODD, "by": "look", "k": 4, "filter": "price>1", "metadata": True}),
        ItemListBody,
    ),
    "a mixture": (
        ("GET", "/v1/items/i/similar?look=0.5&behaviour=1", None),
        ("SimilarItems", {"item_id": "i", "modality_weights": {"look": 0.5, "behaviour": 1}}),
        ItemListBody,
    ),
    "similar by content": (
        ("POST", "/v1/similar", {"text": "red", "image": IN_BASE64, "k": 4}),
        ("SimilarByContent", {"text": "red", "image": IN_BASE64, "k": 4}),
        ItemListBody,
    ),
    "popular": (
        ("GET", "/v1/popular?k=4&category=Mice&window_s=60&filter=price%3E1", None),
        ("Popular", {"k": 4, "category": "Mice", "window_s": 60, "filter": "price>1"}),
        ItemListBody,
    ),
    "events": (
        ("POST", "/v1/events", examples.EVENTS_REQUEST),
        ("WriteEvents", examples.EVENTS_REQUEST),
        EventsReceiptBody,
    ),
    "put": (
        ("PUT", f"/v1/items/{ENCODED}", examples.ITEM | {"image": IN_BASE64}),
        ("UpsertItems", {"items": [examples.ITEM | {"item_id": ODD, "image": IN_BASE64}]}),
        ItemsReceiptBody,
    ),
    "patch": (
        ("PATCH", "/v1/items/i", {"price": 0, "hidden": False}),
        ("PatchItems", {"items": [{"item_id": "i", "price": 0, "hidden": False}]}),
        ItemsReceiptBody,
    ),
    "delete": (("DELETE", f"/v1/items/{ENCODED}", None), ("DeleteItems", {"item_ids": [ODD]}), ItemsReceiptBody),
    "several upserts": (
        ("POST", "/v1/items:batch", {"upsert": [{"item_id": "a"}, {"item_id": "b"}]}),
        ("UpsertItems", {"items": [{"item_id": "a"}, {"item_id": "b"}]}),
        ItemsReceiptBody,
    ),
    "several patches": (
        ("POST", "/v1/items:batch", examples.ITEMS_REQUEST),
        ("PatchItems", {"items": examples.ITEMS_REQUEST["patch"]}),
        ItemsReceiptBody,
    ),
    "several deletions": (
        ("POST", "/v1/items:batch", {"delete": ["a", "b"]}),
        ("DeleteItems", {"item_ids": ["a", "b"]}),
        ItemsReceiptBody,
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_the_engine_is_asked_the_same_and_its_answer_says_the_same(answering, wire, case):
    (method, path, body), (name, message), schema = CASES[case]
    recorder, named = Recorder(), {"x-request-id": "r-1"}
    async with answering(recorder) as served, httpx.AsyncClient(base_url=served.rest) as http:
        response = await http.request(method, path, json=body, headers=named)
        assert response.status_code == 200, response.text
        asked_by_rest, recorder.asked = recorder.asked, []
        async with grpc.aio.insecure_channel(served.grpc) as channel:
            stub = RecommendationServiceStub(channel)
            answer = await getattr(stub, name)(wire.request(name, message), metadata=tuple(named.items()))
    assert recorder.asked == asked_by_rest != []
    schema.model_validate_json(response.content)
    assert wire.normal(response.json()) == wire.normal(wire.in_words(answer))


async def test_the_deadline_is_the_sooner_one(answering):
    recorder = Recorder()
    async with answering(recorder) as served, grpc.aio.insecure_channel(served.grpc) as channel:
        stub = RecommendationServiceStub(channel)
        await stub.Recommend(pb.RecommendRequest(user_id="u"), timeout=30)
        await stub.Recommend(pb.RecommendRequest(user_id="u", deadline_ms=10_000), timeout=30)
        await stub.Recommend(pb.RecommendRequest(user_id="u"))
        async with httpx.AsyncClient(base_url=served.rest) as http:
            await http.get("/recommend?user_id=u&deadline_ms=20000")
            late = await http.get("/recommend?user_id=late&deadline_ms=20000")
    left = [None if query.deadline is None else query.deadline - time.monotonic() for query in recorder.asked[:4]]
    assert left.pop(2) is None
    assert left == pytest.approx([30, 10, 20], abs=1.5)
    assert (late.status_code, late.json()["reason"]) == (504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    ("method", "path", "body", "fields"),
    [
        ("POST", "/v1/recommend", b"", ["body"]),
        ("POST", "/v1/recommend", b"{", ["body"]),
        ("POST", "/v1/recommend", b"[1]", ["body"]),
        ("POST", "/v1/recommend", b'{"user_id": "\\ud800"}', ["body"]),
        ("POST", "/v1/recommend", b'{"user_id": "\xff"}', ["body"]),
        ("POST", "/v1/recommend", b'{"user_id": "u", "k": NaN}', ["body"]),
        ("POST", "/v1/recommend", b"[" * 100_000, ["body"]),
        ("POST", "/v1/recommend", b'{"user_id": "u", "kk": 5}', ["kk"]),
        ("POST", "/v1/recommend?k=5", b'{"user_id": "u"}', ["k"]),
        ("POST", "/v1/similar", b'{"image": "!"}', ["image"]),
        ("POST", "/v1/events", b'{"events": {}}', ["events"]),
        ("PUT", "/v1/items/%FF", b"{}", ["item_id"]),
        ("PUT", "/v1/items/" + "x" * 10_240, b"{}", ["item_id"]),
        ("PUT", "/v1/items/a", b'{"item_id": "b"}', ["item_id"]),
        ("DELETE", "/v1/items/a?k=1", b"", ["k"]),
        ("GET", "/v1/items/a/similar?by=smell", b"", ["by"]),
        ("GET", "/v1/popular?window=5", b"", ["window"]),
        ("GET", "/v1/model?user_id=u", b"", ["user_id"]),
    ],
)
async def test_what_breaks_the_contract_of_bodies_and_paths(answering, method, path, body, fields):
    recorder = Recorder()
    async with answering(recorder) as served, httpx.AsyncClient(base_url=served.rest) as http:
        response = await http.request(method, path, content=body)
    assert response.status_code == 400
    assert [fault["field"] for fault in response.json()["errors"]] == fields
    assert recorder.asked == []


async def test_an_item_that_no_one_knows_is_404_on_both(answering):
    async with answering(Recorder()) as served, grpc.aio.insecure_channel(served.grpc) as channel:
        async with httpx.AsyncClient(base_url=served.rest) as http:
            response = await http.get("/v1/items/gone/similar")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await RecommendationServiceStub(channel).SimilarItems(pb.SimilarItemsRequest(item_id="gone"))
    assert (response.status_code, response.json()["reason"]) == (404, "ITEM_NOT_FOUND")
    assert response.json()["errors"] == [{"field": "item_id", "message": "no item is known as 'gone'"}]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_body_that_does_not_come_is_not_waited_for(answering, monkeypatch):
    monkeypatch.setattr(plain_route, "BODY_S", 0.2)
    async with answering(Recorder()) as served:
        reader, writer = await asyncio.open_connection(*served.rest.removeprefix("http://").split(":"))
        writer.write(b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")


async def test_a_body_may_come_in_parts(answering):
    recorder = Recorder()

    async def parts():
        for byte in b'{"user_id": "u"}':
            yield bytes([byte])
            await asyncio.sleep(0)

    async with answering(recorder) as served, httpx.AsyncClient(base_url=served.rest) as http:
        assert (await http.post("/v1/recommend", content=parts())).status_code == 200
    assert recorder.asked[0].user_id == "u"
